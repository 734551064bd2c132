"""Layers around layers: both directions of a sequence, and one layer for each step."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends.cuda import dispatch as gpu
from numbalstm.backends.cuda.arrays import on_gpu
from numbalstm.layers.base import Layer, deserialize, register_layer
from numbalstm.layers.cell import serialize_layer
from numbalstm.layers.gradients import LayerGradients, Pull, added, added_weights, filled
from numbalstm.layers.joining import MERGES, merged, unmerged
from numbalstm.layers.lstm import LSTM
from numbalstm.layers.lstm_weights import GENERATIONS
from numbalstm.layers.sequence import SequenceLayer
from numbalstm.layers.symbolic import leaves, map_leaves


@register_layer()
class Bidirectional(Layer):
    """Run a recurrent layer over a sequence in both directions and join the outputs.

    Parameters
    ----------
    layer : LSTM or RNN
        Configuration of the forward layer, which is made anew from it.
    merge_mode : {"concat", "sum", "mul", "ave", None}, default "concat"
        None returns both outputs.
    weights : list of array, optional
        Values for `set_weights` right after the layer is built: those of the forward layer, then the backward layer's.
    backward_layer : LSTM or RNN, optional
        Used as it is.  None: one like `layer` in the other direction.
    generation : {"keras3", "keras2", "v1"}, optional
        None: that of `layer`.  In Keras 3 a `layer` with ``go_backwards=True`` needs a `backward_layer`.
    **layer_options
        As in `numbalstm.layers.base.Layer`; ``dtype`` defaults to that of `layer`.

    Raises
    ------
    ValueError
        When a layer is not recurrent, the two do not fit together, or `merge_mode` is unknown.

    Notes
    -----
    With ``return_sequences`` the backward layer's output is flipped in time before it is joined, and both layers put
    out zeros at masked steps (`zero_output_for_mask` is set to ``return_sequences``).  Weights: the forward layer's,
    then the backward layer's.
    """

    supports_mask = True

    def __init__(
        self,
        layer: SequenceLayer,
        merge_mode: str | None = "concat",
        weights: Sequence[Any] | None = None,
        backward_layer: SequenceLayer | None = None,
        *,
        generation: str | None = None,
        **layer_options: Any,
    ) -> None:
        _check_recurrent("layer", layer)
        self.merge_mode = checks.one_of("Bidirectional", "merge_mode", merge_mode, (*MERGES, None))
        generation = layer.generation if generation is None else generation
        self.generation = checks.one_of("Bidirectional", "generation", generation, GENERATIONS)
        if backward_layer is None:
            if self.generation == "keras3" and layer.go_backwards:
                raise ValueError(
                    "Bidirectional: layer must have go_backwards=False when no backward_layer is given, got True."
                )
            backward_layer = layer.clone(
                go_backwards=not layer.go_backwards, name=f"backward_{layer.name.removeprefix('forward_')}"
            )
        self.forward_layer = layer.clone(name=f"forward_{layer.name.removeprefix('forward_')}")
        self.backward_layer = backward_layer
        self._check_backward(backward_layer)
        for direction in (self.forward_layer, self.backward_layer):
            direction.zero_output_for_mask = layer.return_sequences
        if layer_options.get("dtype") is None:
            layer_options["dtype"] = layer.policy
        super().__init__(weights=weights, **layer_options)

    def _check_backward(self, backward: Any) -> None:
        forward = self.forward_layer
        _check_recurrent("backward_layer", backward)
        if backward.go_backwards == forward.go_backwards:
            raise ValueError(
                f"Bidirectional: backward_layer must have go_backwards={not forward.go_backwards}, "
                f"the opposite of layer, got {backward.go_backwards}."
            )
        for name in ("stateful", "return_sequences", "return_state", "time_major"):
            if getattr(backward, name) != getattr(forward, name):
                raise ValueError(
                    f"Bidirectional: backward_layer must have {name}={getattr(forward, name)} like layer, "
                    f"got {getattr(backward, name)}."
                )
        if self.merge_mode not in ("concat", None) and backward.output_size != forward.output_size:
            raise ValueError(
                f"Bidirectional: merge_mode={self.merge_mode!r} needs layers of one width, "
                f"got {forward.output_size} and {backward.output_size}."
            )

    # The options of both layers

    @property
    def return_sequences(self) -> bool:
        """Whether both layers return the output of every step."""
        return self.forward_layer.return_sequences

    @property
    def return_state(self) -> bool:
        """Whether both layers return their final states."""
        return self.forward_layer.return_state

    @property
    def stateful(self) -> bool:
        """Whether both layers keep their states from call to call."""
        return self.forward_layer.stateful

    @property
    def sublayers(self) -> list[Layer]:
        """The forward layer and the backward layer."""
        return [self.forward_layer, self.backward_layer]

    # Building and calling

    def build(self, input_shape: Any) -> None:
        """Build both layers for inputs (batch, time, features)."""
        for layer in self.sublayers:
            layer.build(input_shape)

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
        dropout_masks: Any = None,
        constants: Any = None,
    ) -> Any:
        """Run both layers.

        Parameters
        ----------
        inputs, mask, training, constants
            As for the layer inside; both directions get the same.
        initial_state : list, optional
            The states of the forward layer, then those of the backward layer.
        dropout_masks : pair, optional
            What the forward layer and what the backward layer takes.

        Returns
        -------
        array or tuple of arrays
            The joined outputs (both, with ``merge_mode=None``), with ``return_state`` followed by the states of the
            forward and of the backward layer; a list in generations "keras2" and "v1".

        Raises
        ------
        ValueError
            When a shape or a count does not fit.
        """
        inputs, options = self._directions(inputs, mask, training, initial_state, dropout_masks, constants)
        if on_gpu(inputs):
            results = gpu.both(self.place, inputs, self.sublayers, options, Layer.call_inside)
            y, y_b, states = self._parted(results)
            return self._returned([*self._merge(y, y_b, in_place=True), *states])
        joined, views = self._shared_output(inputs)
        results = []
        for layer, each, view in zip(self.sublayers, options, views, strict=True):
            results.append(layer.call_inside(inputs, **each, **({} if view is None else {"out": view})))
        y, y_b, states = self._parted(results)
        if joined is not None:
            return self._returned([joined, *states])
        return self._returned([*self._merge(y, y_b, in_place=True), *states])

    def _vjp(self, inputs: Any, *args: Any, **kwargs: Any) -> tuple[Any, Pull]:
        x, options = self._directions(inputs, *args, **kwargs)
        if on_gpu(x):
            recorded = gpu.both(self.place, x, self.sublayers, options, Layer.vjp_inside)
        else:
            recorded = [layer.vjp_inside(x, **each) for layer, each in zip(self.sublayers, options, strict=True)]
        y, y_b, states = self._parted([results for results, _ in recorded])

        def pull(cotangents: Any, regularize: bool) -> LayerGradients:
            parts = self._split_cotangents(cotangents, y, y_b)
            found = [each(part, regularize) for (_, each), part in zip(recorded, parts, strict=True)]
            return self._joined_gradients(inputs, x, found)

        return self._returned([*self._merge(y, y_b, in_place=False), *states]), pull

    def _directions(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
        dropout_masks: Any = None,
        constants: Any = None,
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Return the sequences, and what else the forward and the backward layer is called with."""
        if self.generation != "keras3" and isinstance(inputs, (list, tuple)) and len(inputs) > 1:
            inputs, initial_state = self.forward_layer.split_inputs(inputs, initial_state)
        states = self._halves("initial_state", initial_state)
        factors = dropout_masks if dropout_masks is not None else (None, None)
        if not isinstance(factors, (list, tuple)) or len(factors) != 2:
            raise ValueError(
                f"{self.place}: dropout_masks must be a pair, forward and backward, got {checks.describe(factors)}."
            )
        same = {"mask": mask, "training": training} | ({} if constants is None else {"constants": constants})
        pairs = zip(states, factors, strict=True)
        return inputs, [same | {"initial_state": state, "dropout_masks": pair} for state, pair in pairs]

    def _parted(self, results: Sequence[Any]) -> tuple[Any, Any, list[Any]]:
        """Return the outputs of both layers, in the order of time, and all final states."""
        forward, backward = results if self.return_state else ([results[0]], [results[1]])
        return forward[0], self._in_time(backward[0]), [*forward[1:], *backward[1:]]

    def _in_time(self, y_b: Any) -> Any:
        """Return what the backward layer returns in the order of time, or the other way round; None stays None."""
        if not self.return_sequences or y_b is None:
            return y_b
        axis = 0 if isinstance(y_b, list) else self._time_axis
        return map_leaves(lambda sequence: None if sequence is None else np.flip(sequence, axis), y_b)

    def _shared_output(self, inputs: Any) -> tuple[np.ndarray | None, tuple[Any, Any]]:
        """Return an array for both directions' sequences, and a view of it for each to write into; None: no such.

        It saves the memory and the time of putting them together afterwards.
        """
        forward, backward = self.sublayers
        direct = (
            self.merge_mode == "concat"
            and self.return_sequences
            and isinstance(inputs, np.ndarray)
            and inputs.ndim == 3
            and forward.policy is backward.policy
            and not forward.policy.half
            and type(forward).call is LSTM.call is type(backward).call
        )
        if not direct:
            return None, (None, None)
        width = forward.output_size
        joined = np.empty((*inputs.shape[:2], width + backward.output_size), forward.policy.output)
        return joined, (joined[..., :width], np.flip(joined[..., width:], self._time_axis))

    @property
    def _time_axis(self) -> int:
        return 0 if self.forward_layer.time_major else 1

    def _halves(self, name: str, states: Any) -> tuple[Any, Any]:
        if states is None:
            return None, None
        counts = [len(layer.state_size) for layer in self.sublayers]
        if not isinstance(states, (list, tuple)) or len(states) != sum(counts):
            found = len(states) if isinstance(states, (list, tuple)) else checks.describe(states)
            raise ValueError(
                f"{self.place}: {name} must be a list of {sum(counts)} states, "
                f"{counts[0]} for the forward and {counts[1]} for the backward layer, got {found}."
            )
        return list(states[: counts[0]]), list(states[counts[0] :])

    def _merge(self, y: Any, y_b: Any, in_place: bool) -> list[Any]:
        """Return the joined outputs as a list of one, or both outputs."""
        if self.merge_mode is None:
            return [y, y_b]
        return [merged(self.merge_mode, y, y_b, in_place)]

    def _split_cotangents(self, cotangents: Any, y: Any, y_b: Any) -> list[Any]:
        """Return the cotangents of what the forward and of what the backward layer returned."""
        values = [cotangents] if not self.return_state and self.merge_mode is not None else list(cotangents)
        if self.merge_mode is not None:
            values[:1] = unmerged(self.merge_mode, values[0], y, y_b)
        dy, dy_b, *states = values
        if not self.return_state:
            return [dy, self._in_time(dy_b)]
        count = len(self.forward_layer.state_size)
        return [[dy, *states[:count]], [self._in_time(dy_b), *states[count:]]]

    def _joined_gradients(self, inputs: Any, x: Any, found: Sequence[LayerGradients]) -> LayerGradients:
        """Return the gradients of both directions as those of this layer's arguments."""
        forward, backward = found
        batch = len(x) if isinstance(x, (list, tuple)) else np.shape(x)[1 - self._time_axis]
        states: list[Any] = []
        for layer, gradients in zip(self.sublayers, found, strict=True):
            states += filled(gradients.initial_state, layer.zero_gradients(batch))
        dx = added(forward.inputs, backward.inputs)
        if inputs is not x:
            dx = [dx, *states][: len(inputs)]
        constants = added(forward.constants, backward.constants)
        return LayerGradients(dx, states, constants, added_weights(forward.weights, backward.weights))

    def _returned(self, values: list[Any]) -> Any:
        return values[0] if len(values) == 1 else self._several(values)

    def _several(self, values: Sequence[Any]) -> Any:
        return tuple(values) if self.generation == "keras3" else list(values)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shapes of what a call returns, nested in the same way."""
        forward, backward = (layer.compute_output_shape(input_shape) for layer in self.sublayers)
        states: list[Any] = []
        if self.return_state:
            states = [*forward[1:], *backward[1:]]
            forward, backward = forward[0], backward[0]
        if self.merge_mode is None:
            return self._several([forward, backward, *states])
        width = forward[-1] + backward[-1] if self.merge_mode == "concat" else forward[-1]
        merged = (*forward[:-1], width)
        return self._several([merged, *states]) if states else merged

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the input's mask for sequences, else None; None for each returned state."""
        if isinstance(mask, (list, tuple)):
            mask = mask[0] if mask else None
        masks = [mask if self.return_sequences else None] * (2 if self.merge_mode is None else 1)
        if self.return_state:
            masks += [None for layer in self.sublayers for _ in leaves(layer.state_size)]
        return masks[0] if len(masks) == 1 else masks

    # States

    @property
    def states(self) -> Any:
        """Stored states of the forward layer, then the backward layer's; None when there are none."""
        both = [layer.states for layer in self.sublayers]
        return None if None in both else [*both[0], *both[1]]

    def reset_state(self, states: Any = None) -> None:
        """Replace the stored states of both layers.

        Parameters
        ----------
        states : list of array_like, optional
            The states of the forward layer, then those of the backward layer.  None: zeros.

        Raises
        ------
        AttributeError
            When the layers are not stateful.
        ValueError
            When the batch size is not known yet, or the number, a shape or a dtype does not fit.
        """
        if not self.stateful:
            raise AttributeError(
                f"{self.place}: only stateful layers have states to reset; make them with stateful=True."
            )
        for layer, half in zip(self.sublayers, self._halves("states", states), strict=True):
            layer.reset_state(half)

    reset_states = reset_state

    # Config

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        config = super().get_config() | {
            "merge_mode": self.merge_mode,
            "layer": serialize_layer(self.forward_layer),
            "backward_layer": serialize_layer(self.backward_layer),
        }
        inner = self.forward_layer.generation
        return config if self.generation == inner else config | {"generation": self.generation}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Bidirectional":
        """Make a layer from a config of Keras 3 or Keras 2; ValueError for layers that are not supported."""
        config = cls.clean_config(config)
        if config.get("backward_layer") is not None:
            config["backward_layer"] = deserialize(config["backward_layer"])
        return cls(deserialize(config.pop("layer")), **config)

    def __repr__(self) -> str:
        return f"Bidirectional({self.forward_layer!r}, merge_mode={self.merge_mode!r}, name={self.name!r})"


def _check_recurrent(name: str, layer: Any) -> None:
    if not isinstance(layer, SequenceLayer):
        raise ValueError(
            f"Bidirectional: {name} must be a recurrent layer (LSTM or RNN), got {checks.describe(layer)}."
        )
