"""What layers that run over time share: their options, their masks, their stored states, and the shape of results."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.backends import arguments
from numbalstm.backends.cuda.arrays import ARRAYS, DeviceArray, on_gpu, on_host
from numbalstm.layers.base import Layer
from numbalstm.layers.gradients import LayerGradients
from numbalstm.layers.symbolic import is_shape, leaves, map_leaves
from numbalstm.streaming import Stream
from numbalstm.streaming.stages import Source


class SequenceLayer(Layer):
    """A layer that reads (batch, time, features) and keeps states.

    Parameters
    ----------
    return_sequences, return_state, go_backwards, stateful, unroll, time_major, zero_output_for_mask : bool
        As in `numbalstm.LSTM`.
    **layer_options
        As in `numbalstm.layers.base.Layer`.

    Notes
    -----
    A subclass says `state_size`, nested as its states are nested, and `output_size`.
    """

    supports_mask = True

    def __init__(
        self,
        *,
        return_sequences: bool,
        return_state: bool,
        go_backwards: bool,
        stateful: bool,
        unroll: bool,
        time_major: bool,
        zero_output_for_mask: bool,
        **layer_options: Any,
    ) -> None:
        self.return_sequences = bool(return_sequences)
        self.return_state = bool(return_state)
        self.go_backwards = bool(go_backwards)
        self.stateful = bool(stateful)
        self.unroll = bool(unroll)
        self.time_major = bool(time_major)
        self.zero_output_for_mask = bool(zero_output_for_mask)
        self._batch: int | None = None
        self._states: Any = None
        super().__init__(**layer_options)

    # What a subclass says

    state_size: Any
    output_size: int
    generation: str

    # Shapes

    @property
    def _batch_axis(self) -> int:
        return 1 if self.time_major else 0

    def _sequence_shape(self, input_shape: Any) -> tuple[int | None, int | None, tuple[int | None, ...]]:
        """Return batch, time and what follows, from the shape of an input or shapes of sequences or of [x, states]."""
        if not is_shape(input_shape) and not all(is_shape(item) for item in input_shape):
            raise ValueError(f"{self.place}: a shape must hold integers and None, got {tuple(input_shape)}.")
        if not is_shape(input_shape):
            first = tuple(input_shape[0])
            if self.generation == "keras3" or not self._is_sequence_first(first):
                if len({len(item) for item in input_shape}) > 1:
                    raise ValueError(
                        f"{self.place}: inputs must be one array, or a list of sequences (time, features), got shapes "
                        f"{', '.join(map(str, input_shape))}. States go into initial_state."
                    )
                return len(input_shape), None, first[1:]
            input_shape = first
        if len(input_shape) < 3:
            raise ValueError(f"{self.place}: the input must have at least 3 axes, got shape {tuple(input_shape)}.")
        if any(size is not None and size < 0 for size in input_shape):
            raise ValueError(f"{self.place}: a shape must hold no negative size, got {tuple(input_shape)}.")
        first, second, *rest = input_shape
        return (second, first, tuple(rest)) if self.time_major else (first, second, tuple(rest))

    @staticmethod
    def _is_sequence_first(shape: tuple[int | None, ...]) -> bool:
        """Return whether the first of several inputs is a batch of sequences, and the others so its states."""
        return len(shape) >= 3

    def _fix_batch(self, batch: int | None) -> None:
        """Make the states of a stateful layer for this batch size; the layer is being built."""
        if not self.stateful:
            return
        if batch is None:
            raise ValueError(
                f"{self.place}: stateful=True needs a known batch size; "
                "build with batch_input_shape=(batch, time, features) or call it on arrays."
            )
        self._batch = batch
        self._states = self._zero_states(batch)

    def _zero_states(self, batch: int) -> Any:
        return map_leaves(lambda size: np.zeros((batch, size), self.policy.variable), self.state_size)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return (B, T, U) or (B, U) (time first with `time_major`), and with `return_state` the states' shapes too."""
        batch, time, _ = self._sequence_shape(input_shape)
        shape = (batch, self.output_size)
        if self.return_sequences:
            shape = (time, *shape) if self.time_major else (batch, time, self.output_size)
        if not self.return_state:
            return shape
        states = map_leaves(lambda size: (batch, size), list(self.state_size))
        return self._returned(shape, states)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return the input's mask for sequences, else None; None for each returned state."""
        if isinstance(mask, (list, tuple)):
            mask = mask[0] if mask else None
        mask = mask if self.return_sequences else None
        if not self.return_state:
            return mask
        return [mask] + [None for _ in leaves(self.state_size)]

    def _returned(self, outputs: Any, states: Sequence[Any]) -> Any:
        """Return what a call returns: the outputs, or with the states a tuple (Keras 3) or a list (Keras 2)."""
        if not self.return_state:
            return outputs
        return (outputs, *states) if self.generation == "keras3" else [outputs, *states]

    # Arrays

    def split_inputs(self, inputs: Any, initial_state: Any) -> tuple[Any, Any]:
        """Return inputs and initial state of a call, which Keras 2 also takes as one list [x, state, ...]."""
        if not isinstance(inputs, (list, tuple)) or self.generation == "keras3":
            return inputs, initial_state
        if not inputs or not self._is_sequence_first(np.shape(inputs[0])):
            return inputs, initial_state
        if initial_state is not None and len(inputs) > 1:
            raise ValueError(f"{self.place}: the initial state came twice, among the inputs and as initial_state.")
        return inputs[0], list(inputs[1:]) or initial_state

    def _batch_major(self, inputs: Any) -> Any:
        """Return inputs as an array (B, T, ...) or a list of arrays, in the type of the arithmetic."""
        if isinstance(inputs, (list, tuple)):
            return [self._real(f"inputs[{row}]", sequence) for row, sequence in enumerate(inputs)]
        x = self._real("inputs", inputs)
        if x.ndim < 3:
            axes = "(time, batch, features)" if self.time_major else "(batch, time, features)"
            raise ValueError(f"{self.place}: inputs must have shape {axes}, got {x.shape}.")
        return self._layout(x)

    serves_gpu = False
    """Whether a call takes arrays on a GPU."""

    def _real(self, name: str, array: Any) -> Any:
        if on_gpu(array) and (self.policy.half or not self.serves_gpu):
            arguments.as_array(self.place, name, array)  # refuses it
        array = arguments.real_array(self.place, name, array, self.policy.compute)
        return self.policy.to_compute(array) if self.policy.half else array

    def _layout(self, array: Any) -> Any:
        """Return a view with batch and time exchanged when the layer is time-major and the array is a sequence."""
        return array.swapaxes(0, 1) if self.time_major and array.ndim > 2 else array

    # Masks

    def _batch_major_mask(self, mask: Any, x: Any) -> np.ndarray | None:
        """Return a mask as bool (B, T), or None; a list of masks gives its first."""
        if isinstance(mask, (list, tuple)) and (not mask or mask[0] is None or np.ndim(mask[0]) >= 2):
            mask = mask[0] if mask else None
        if mask is None:
            return None
        if not self.time_major or isinstance(x, list):
            return arguments.mask(self.place, mask, x)
        return arguments.mask(self.place, mask, x.swapaxes(0, 1)).T

    # Stored states

    @property
    def states(self) -> Any:
        """Stored states, nested as `state_size`; None when the layer is not stateful or not built."""
        return map_leaves(lambda state: np.array(on_host(state)), self._states) if self._states is not None else None

    def reset_state(self, states: Any = None) -> None:
        """Replace the stored states.

        Parameters
        ----------
        states : list of array_like, nested as `state_size`, optional
            Each (batch, its size); one array does where there is one state.  None: zeros.

        Raises
        ------
        AttributeError
            When the layer is not stateful.
        ValueError
            When the batch size is not known yet, or the number, a shape or a dtype does not fit.
        """
        if not self.stateful:
            raise AttributeError(
                f"{self.place}: only a stateful layer has states to reset; make it with stateful=True."
            )
        if self._batch is None:
            raise ValueError(
                f"{self.place}: has no known batch size yet, so no states; "
                "give batch_input_shape, or build or call the layer first."
            )
        if states is None:
            self._states = self._zero_states(self._batch)
        else:
            self._states = self._checked_states("states", states, self.state_size, self._batch)

    reset_states = reset_state

    def _checked_states(self, name: str, states: Any, size: Any, batch: int) -> Any:
        """Return states nested as `size`, checked and in the variables' type."""
        if isinstance(size, int):
            array = arguments.real_array(self.place, name, states, self.policy.compute)
            checks.shape(self.place, name, array, (batch, size))
            return self.policy.to_variable(array)
        if len(size) == 1 and hasattr(states, "shape") and np.ndim(states) == 2:
            states = [states]
        if not isinstance(states, (list, tuple, np.ndarray)):
            raise ValueError(f"{self.place}: {name} must be a list of {len(size)}, got {checks.describe(states)}.")
        if len(states) != len(size):
            raise ValueError(f"{self.place}: {name} must hold {len(size)} states, got {len(states)}.")
        return [
            self._checked_states(f"{name}[{index}]", state, inner, batch)
            for index, (state, inner) in enumerate(zip(states, size, strict=True))
        ]

    def _starting_states(self, given: Any, batch: int) -> Any:
        """Return the states a call starts from: those given, or the stored ones; None is zeros."""
        if not self.stateful:
            return given
        if batch != self._batch:
            raise ValueError(
                f"{self.place}: is stateful with a batch of {self._batch}, got a batch of {batch}. "
                "The batch size of a stateful layer is fixed when it is built."
            )
        return given if self._heeds(given) else self._states

    def _heeds(self, given: Any) -> bool:
        """Return whether a call starts from the states that it is given: Keras 2 prefers stored ones unless zero."""
        stored = self.stateful and self.generation != "keras3" and _any_nonzero(self._states)
        return given is not None and not stored

    def _store(self, states: Any) -> None:
        """Keep the final states of a call for the next one."""
        if self.stateful:
            rounded = map_leaves(self.policy.to_variable, states) if self.policy.half else states
            self._states = map_leaves(
                lambda state: state if isinstance(state, DeviceArray) else np.array(state, self.policy.variable),
                rounded,
            )

    # Gradients

    def split_cotangents(self, cotangents: Any) -> tuple[Any, list[Any]]:
        """Return the cotangents of the outputs, batch first, and of the final states, from those of a call's results.

        None stands for zeros.
        """
        zeros = map_leaves(lambda _: None, list(self.state_size))
        outputs, *states = cotangents if self.return_state else [cotangents, *zeros]
        return self._layout(outputs) if isinstance(outputs, ARRAYS) else outputs, states

    def zero_gradients(self, batch: int) -> list[Any]:
        """Return zeros as gradients of the initial states."""
        return map_leaves(lambda size: np.zeros((batch, size), self.policy.compute), list(self.state_size))

    def joined_gradients(self, inputs: Any, gradients: LayerGradients) -> LayerGradients:
        """Return gradients with that of the inputs, which comes batch first, nested as the call's `inputs`."""
        dx, states = gradients.inputs, gradients.initial_state
        dx = self._layout(dx) if isinstance(dx, ARRAYS) else dx
        if isinstance(inputs, (list, tuple)) and self.split_inputs(inputs, None)[0] is not inputs:
            dx = [dx, *states][: len(inputs)]
        return gradients._replace(inputs=dx)

    # Streams

    def stream(self, batch: int = 1, *, threads: int | None = None, device: str = "cpu") -> Stream:
        """Return a stream: this layer step by step, its states in place.

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
            Starts from zeros, whatever states a stateful layer keeps.

        Raises
        ------
        ValueError
            When the layer is not built, or goes backwards.
        """
        return Stream(self, batch, threads=threads, device=device)

    def stream_source(self) -> Source:
        """Return what `Stream` and `StreamPool` need of this layer."""
        from numbalstm.layers.streams import source_of_layer

        return source_of_layer(self)

    def _sequence_config(self) -> dict[str, Any]:
        """Return these options as a config of the layer's generation holds them."""
        config = {
            "return_sequences": self.return_sequences,
            "return_state": self.return_state,
            "go_backwards": self.go_backwards,
            "stateful": self.stateful,
            "unroll": self.unroll,
        }
        if self.generation == "keras3" or self.zero_output_for_mask:
            config["zero_output_for_mask"] = self.zero_output_for_mask
        if self.generation != "keras3" or self.time_major:
            config["time_major"] = self.time_major
        return config


def _any_nonzero(states: Any) -> bool:
    return any(np.any(on_host(state)) for state in leaves(states))
