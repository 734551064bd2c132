"""One layer for each step of a sequence."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import Layer, deserialize, register_layer
from numbalstm.layers.cell import serialize_layer
from numbalstm.layers.gradients import LayerGradients, Pull, added_weights
from numbalstm.layers.symbolic import map_leaves, map_shapes


@register_layer()
class TimeDistributed(Layer):
    """Apply one layer to every step of a sequence.

    Parameters
    ----------
    layer : Layer
    **layer_options
        As in `numbalstm.layers.base.Layer`; ``dtype`` defaults to that of `layer`.

    Raises
    ------
    ValueError
        When `layer` is no layer.
    """

    supports_mask = True

    def __init__(self, layer: Layer, **layer_options: Any) -> None:
        if not isinstance(layer, Layer):
            raise ValueError(f"TimeDistributed: layer must be a layer, got {checks.describe(layer)}.")
        self.layer = layer
        self.generation = layer.generation
        if layer_options.get("dtype") is None:
            layer_options["dtype"] = layer.policy
        super().__init__(**layer_options)

    @property
    def sublayers(self) -> list[Layer]:
        """The layer inside."""
        return [self.layer]

    def build(self, input_shape: Any) -> None:
        """Build the layer inside for one step (batch, ...)."""
        self._check_axes(input_shape)
        self.layer.build((input_shape[0], *input_shape[2:]))

    def _check_axes(self, shape: Sequence[int | None]) -> None:
        if len(shape) < 3:
            raise ValueError(
                f"{self.place}: inputs must have at least 3 axes (batch, time, ...), got shape {tuple(shape)}."
            )

    def call(self, inputs: Any, mask: Any = None, training: bool | None = None) -> Any:
        """Apply the layer to ``inputs[:, t]`` for every t.

        Parameters
        ----------
        inputs : array_like (B, T, ...)
        mask : array_like (B, T, ...), optional
            The layer gets ``mask[:, t]`` if it takes a mask.
        training : bool, optional
            Passed on to a layer that takes it.

        Returns
        -------
        array (B, T, ...), or several, nested as the layer returns them

        Raises
        ------
        ValueError
            When there are fewer than 3 axes, no step, or the mask does not fit.
        """

        def run(x: np.ndarray, options: dict[str, Any]) -> tuple[Any, None]:
            return self.layer.call(x, **options), None

        return self._over_time(run, inputs, mask, training)[0]

    def _vjp(self, inputs: Any, mask: Any = None, training: bool | None = None) -> tuple[Any, Pull]:
        def run(x: np.ndarray, options: dict[str, Any]) -> tuple[Any, Pull]:
            return self.layer.unpenalized_vjp(x, **options)

        outputs, pulls = self._over_time(run, inputs, mask, training)
        batch, time, *rest = np.shape(inputs)

        def pull(cotangents: Any, regularize: bool) -> LayerGradients:
            if len(pulls) == 1:
                folded = _map_arrays(lambda rows: rows.reshape(batch * time, *rows.shape[2:]), cotangents)
                found = [pulls[0](folded, regularize)]
            else:
                found = [
                    each(_map_arrays(lambda rows, t=t: rows[:, t], cotangents), regularize)
                    for t, each in enumerate(pulls)
                ]
            dx = None
            if found[0].inputs is not None:
                dx = np.stack([gradients.inputs for gradients in found], axis=1).reshape(batch, time, *rest)
            return LayerGradients(dx, weights=added_weights(*(gradients.weights for gradients in found)))

        return outputs, pull

    def _over_time(self, run: Callable[..., Any], inputs: Any, mask: Any, training: Any) -> tuple[Any, list[Any]]:
        """Run the layer on all steps at once, or one by one; returns the outputs and what else `run` returned."""
        x = np.asarray(inputs)
        self._check_axes(x.shape)
        batch, time = x.shape[:2]
        if time == 0:
            raise ValueError(f"{self.place}: inputs must have at least one time step, got shape {x.shape}.")
        if mask is not None:
            mask = np.asarray(mask)
            if mask.shape[:2] != (batch, time):
                raise ValueError(f"{self.place}: mask must have shape ({batch}, {time}, ...), got {mask.shape}.")
        if training or getattr(self.layer, "stateful", False):
            steps = [run(x[:, t], self._options(None if mask is None else mask[:, t], training)) for t in range(time)]
            return _stacked([outputs for outputs, _ in steps]), [extra for _, extra in steps]
        # Nothing couples the rows of a batch here, so the steps may be rows of one large batch.
        folded = None if mask is None else mask.reshape(batch * time, *mask.shape[2:])
        result, extra = run(x.reshape(batch * time, *x.shape[2:]), self._options(folded, training))
        return map_leaves(lambda rows: rows.reshape(batch, time, *rows.shape[1:]), result), [extra]

    def _options(self, mask: np.ndarray | None, training: Any) -> dict[str, Any]:
        """Return what the layer inside is called with beside its input."""
        options = {"training": training} if self.layer._takes_training else {}
        return options if mask is None or not self.layer._takes_mask else options | {"mask": mask}

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of the layer's output with the time axis in second place."""
        self._check_axes(input_shape)
        batch, time, *rest = input_shape
        inner = self.layer.compute_output_shape((batch, *rest))
        return map_shapes(lambda shape: (shape[0], time, *shape[1:]), inner)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        """Return a mask (B, T) as it is, and for one of more axes what the layer makes of each step's.

        Where it makes none, a step counts in which anything does.
        """
        if np.ndim(mask) < 3:
            return mask
        batch, time, *rest = np.shape(mask)
        x = np.asarray(inputs).reshape(batch * time, *np.shape(inputs)[2:])
        inner = self.layer.compute_mask(x, np.asarray(mask).reshape(batch * time, *rest))
        any_counts = np.asarray(mask, bool).any(axis=tuple(range(2, 2 + len(rest))))
        return map_leaves(lambda m: any_counts if m is None else m.reshape(batch, time, *m.shape[1:]), inner)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"layer": serialize_layer(self.layer)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TimeDistributed":
        """Make a layer from a config of Keras 3 or Keras 2; ValueError for layers that are not supported."""
        config = cls.clean_config(config)
        return cls(deserialize(config.pop("layer")), **config)

    def __repr__(self) -> str:
        return f"TimeDistributed({self.layer!r}, name={self.name!r})"


def _stacked(steps: list[Any]) -> Any:
    """Return equally nested arrays of each step as arrays with the time axis in second place."""
    if isinstance(steps[0], (list, tuple)):
        return type(steps[0])(_stacked(list(inner)) for inner in zip(*steps, strict=True))
    return np.stack(steps, axis=1)


def _map_arrays(function: Callable[[np.ndarray], np.ndarray], cotangents: Any) -> Any:
    return map_leaves(lambda leaf: None if leaf is None else function(leaf), cotangents)
