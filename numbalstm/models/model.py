"""The functional model: a graph of layers between some inputs and outputs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import Layer, register_layer, unique_name
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.streams import source_of_graph
from numbalstm.layers.symbolic import SymbolicTensor, leaves
from numbalstm.models import config_reader, config_writer, prediction
from numbalstm.models.graph import Tape
from numbalstm.models.inputs import as_input, in_order, nested_as
from numbalstm.models.structure import GraphLayer
from numbalstm.models.summary import print_summary
from numbalstm.models.training import Trainer
from numbalstm.streaming import Stream
from numbalstm.streaming.stages import Source


class BaseModel(GraphLayer, Trainer):
    """What `Model` and `Sequential` share; the parameters are those of `GraphLayer`."""

    # Calls

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Compute the outputs.

        Parameters
        ----------
        inputs : array, list of arrays, or dict of arrays by input name
        training : bool, optional
            Whether layers such as Dropout act as in training.  None: as in inference, unless the graph says otherwise.
        mask : bool array, or list of bool arrays and None, optional
            For each input.

        Returns
        -------
        array, list or dict
            As the model was made.

        Raises
        ------
        ValueError
            For a wrong number of inputs, or a wrong shape; inside the graph, with the layer's place.
        """
        return self.call_with_mask(inputs, mask, training=training)[0]

    def call_with_mask(
        self, inputs: Any, mask: Any, /, *, gives_mask: bool = True, training: bool | None = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Return the outputs and, flat, their masks."""
        return self._run_graph(inputs, self._given_mask(mask, gives_mask, kwargs), training)

    def vjp_with_mask(
        self, inputs: Any, mask: Any, /, *, gives_mask: bool = True, training: bool | None = None, **kwargs: Any
    ) -> tuple[Any, Any, Pull]:
        """Return the outputs and, flat, their masks, and the pull."""
        tape: Tape = []
        mask = self._given_mask(mask, gives_mask, kwargs)
        outputs, masks = self._run_graph(inputs, mask, training, tape)

        def pull(cotangents: Any, regularize: bool) -> LayerGradients:
            found, weights = self.graph.pull(tape, list(leaves(cotangents)), regularize)
            return LayerGradients(nested_as(inputs, found, self._input_names), weights=weights)

        return outputs, masks, pull

    @staticmethod
    def _given_mask(mask: Any, gives_mask: bool, kwargs: dict[str, Any]) -> Any:
        return kwargs["mask"] if kwargs.get("mask") is not None else mask if gives_mask else None

    def _vjp(self, inputs: Any, training: bool | None = None, mask: Any = None) -> tuple[Any, Pull]:
        outputs, _, pull = self.vjp_with_mask(inputs, mask, training=training)
        return outputs, pull

    def _cotangent(self, cotangent: Any) -> Any:
        return cotangent  # each layer takes it in its own type

    def _run_graph(self, inputs: Any, mask: Any, training: bool | None, tape: Tape | None = None) -> tuple[Any, Any]:
        if not self.built:
            self.build(self.shapes_of(inputs))
        graph, names = self.graph, self._input_names
        given = in_order(self.place, inputs, graph.inputs, names)
        arrays = [
            as_input(self.place, name, array, tensor, self._checks_sizes)
            for name, array, tensor in zip(names, given, graph.inputs, strict=True)
        ]
        masks = [None] * len(arrays) if mask is None else in_order(self.place, mask, graph.inputs, names)
        results, result_masks = graph.run(arrays, masks, training, tape)
        return self._nested(results), result_masks

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the outputs' masks, nested as the outputs are; this runs the model."""
        return self._nested(self._run_graph(inputs, mask, None)[1])

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the outputs' shapes, nested as the outputs are, for inputs of some shapes."""
        shapes = in_order(self.place, input_shape, self.inputs, self.input_names, shapes=True)
        return self._nested(self.graph.shapes(shapes))

    def output_dtype(self, inputs: Sequence[SymbolicTensor]) -> str:
        """Return the element type of the first output."""
        return self.outputs[0].dtype

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: int | str = 0,
        *,
        progress: Callable[[int, int], None] | None = None,
        out: Any = None,
    ) -> Any:
        """Compute the outputs for many samples, a block at a time.

        Parameters
        ----------
        x : array, list of arrays, or dict of arrays by input name
            Samples along the first axis; memory-mapped arrays are read block by block.
        batch_size : int, optional
            Samples per block.  None: 32, or the batch size that the model was made for.  It decides about memory and
            speed: no sample's result depends on the others, but for the last bit of the products in Dense layers.
        verbose : {0, 1, 2, "auto"}, default 0
            1 writes the progress to the error stream, 2 only its end; "auto" is 1 on a terminal, else 0.
        progress : callable, optional
            ``progress(done, total)`` after each block, in samples.
        out : array, list or dict of arrays, nested as the outputs, optional
            Where the outputs are written, for example a memory-mapped file larger than memory.

        Returns
        -------
        array, list or dict of arrays
            As `call`; `out` when given.

        Raises
        ------
        ValueError
            When the inputs differ in their numbers of samples, a stateful model's batches come out unequal, or `out`
            does not fit.
        """
        return prediction.predict(self, x, batch_size, verbose, progress, out)

    def run(self, inputs: Mapping[str, Any], batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Compute the outputs by name.

        Parameters
        ----------
        inputs : mapping
            An array for each of `input_names`.
        batch_size : int, optional
            As for `predict`; None computes all samples at once.

        Returns
        -------
        dict
            An array for each of `output_names`.
        """
        if not isinstance(inputs, Mapping):
            raise TypeError(f"{self.place}: run needs a dict of arrays by input name, got {checks.describe(inputs)}.")
        outputs = self(inputs, training=False) if batch_size is None else self.predict(inputs, batch_size)
        return dict(zip(self.output_names, leaves(outputs), strict=True))

    # States, streams, text

    @property
    def stateful(self) -> bool:
        """Whether some layer keeps its states from call to call."""
        return next(_stateful_layers(self), None) is not None

    def reset_states(self) -> None:
        """Set the states of all stateful layers to zero."""
        for layer in _stateful_layers(self):
            layer.reset_state()

    reset_state = reset_states

    def stream(self, batch: int = 1, *, threads: int | None = None, device: str = "cpu") -> Stream:
        """Return a stream: this model step by step, its states in place.

        Parameters
        ----------
        batch : int, default 1
            Sequences that advance side by side.
        threads : int, optional
            Most threads to use.  None: `numbalstm.set_threads`, as it is now.
        device : {"cpu", "cuda"}, default "cpu"
            Where weights and states are kept.

        Returns
        -------
        Stream

        Raises
        ------
        ValueError
            When the model is not built, is no chain, or has a layer that needs more than the steps so far.
        """
        return Stream(self, batch, threads=threads, device=device)

    def stream_source(self) -> Source:
        """Return what `Stream` and `StreamPool` need of this model."""
        return source_of_graph(self.place, self.graph)

    def summary(self, line_length: int | None = None, print_fn: Callable[[str], Any] | None = None) -> None:
        """Print a table of the layers, their output shapes and parameters, and the totals.

        Parameters
        ----------
        line_length : int, optional
            Width of the table in characters.  None: the terminal's.
        print_fn : callable, optional
            Gets the table line by line as plain text; None prints, with rich when it is installed.
        """
        print_summary(self, line_length, print_fn)


@register_layer("Functional")
class Model(BaseModel):
    """A graph of layers from `inputs` to `outputs`.

    Parameters
    ----------
    inputs, outputs : symbolic tensor, or list or dict of them
        From `Input` and from calls of layers.  The outputs of a call are nested as `outputs` is.
    name : str, optional
    trainable : bool, default True
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rules masks and fixed `training` arguments follow inside the graph, see `numbalstm.models.graph.Graph`.

    Raises
    ------
    ValueError
        When an output needs an input that is not among `inputs`, or two layers share a name.
    TypeError
        When an input or output is no symbolic tensor.

    Examples
    --------
    >>> import numbalstm as nl
    >>> x = nl.Input((None, 3))
    >>> model = nl.Model(x, nl.Dense(2)(nl.LSTM(4)(x)))
    >>> model.output_shape
    (None, 2)
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Any,
        name: str | None = None,
        trainable: bool = True,
        generation: str = "keras3",
        **kwargs: Any,
    ) -> None:
        name = unique_name("Functional") if name is None else name
        super().__init__(name=name, trainable=trainable, generation=generation, **kwargs)
        self._set_graph(inputs, outputs)
        self.build(None)
        if not trainable:
            self.trainable = False

    def get_config(self) -> dict[str, Any]:
        """Return the graph in the form of Keras 3."""
        return config_writer.get_config(self)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Model":
        """Make a model from the config of a functional model of Keras 3 or Keras 2.

        Raises
        ------
        ValueError
            When a layer is not supported, or the graph refers to what is not there or runs in a circle.
        """
        inputs, outputs, options = config_reader.read(config)
        return cls(inputs, outputs, **options)


def _stateful_layers(layer: Layer) -> Iterator[Any]:
    for inner in layer.sublayers:
        if getattr(inner, "stateful", False) and not isinstance(inner, BaseModel):
            yield inner
        else:
            yield from _stateful_layers(inner)
