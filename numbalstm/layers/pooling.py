"""One vector from a whole sequence."""

from typing import Any

import numpy as np

from numbalstm.layers.base import InputSpec, Layer, register_layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.reshaping import data_format_of
from numbalstm.layers.symbolic import Shape


class _GlobalPooling1D(Layer):
    """Base of the poolings over time.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        Where the features are: (batch, steps, features) or (batch, features, steps).  None is "channels_last".
    keepdims : bool, default False
        Keep time as an axis of size 1.
    **kwargs
        As for `Layer`.
    """

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data_format = data_format_of(type(self).__name__, data_format)
        self.keepdims = bool(keepdims)
        self.input_spec = InputSpec(rank=3)
        self._time = 1 if self.data_format == "channels_last" else 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (batch, features), or with `keepdims` three axes."""
        kept = (1,) if self.keepdims else ()
        return (*input_shape[: self._time], *kept, *input_shape[self._time + 1 :])

    def _over_time(self, values: np.ndarray, shape: Shape) -> np.ndarray:
        """Return a view of values without time, shaped as the results, that has them at each step."""
        return np.broadcast_to(values if self.keepdims else np.expand_dims(values, self._time), shape)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"data_format": self.data_format, "keepdims": self.keepdims}


@register_layer("GlobalAvgPool1D")
class GlobalAveragePooling1D(_GlobalPooling1D):
    """Mean over the steps of a sequence, masked steps left out.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        Where the features are: (batch, steps, features) or (batch, features, steps).  None is "channels_last".
    keepdims : bool, default False
        Keep time as an axis of size 1.
    **kwargs
        As for `Layer`.

    Notes
    -----
    A sequence without any step to count gives NaN, as in Keras.
    """

    supports_mask = True

    def call(self, inputs: Any, mask: Any = None) -> np.ndarray:
        """Return the means; `mask` is (batch, steps)."""
        x = self.array(inputs)
        kept, count = self._counted(x, mask)
        total = (x if kept is None else np.where(kept, x, x.dtype.type(0))).sum(axis=self._time, keepdims=self.keepdims)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.result(total / count)

    def _vjp(self, inputs: Any, mask: Any = None) -> tuple[np.ndarray, Pull]:
        x = self.array(inputs)
        kept, count = self._counted(x, mask)

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            with np.errstate(invalid="ignore", divide="ignore"):  # where nothing is kept, nothing gets the quotient
                share = self._over_time(cotangent / count, x.shape)
            return LayerGradients(np.array(share) if kept is None else np.where(kept, share, 0))

        return self.call(inputs, mask), pull

    def _counted(self, x: np.ndarray, mask: Any) -> tuple[np.ndarray | None, Any]:
        """Return which steps count, to broadcast over x (None: all), and how many these are for each result."""
        if mask is None:
            return None, x.dtype.type(x.shape[self._time])
        kept = self._expanded(mask, x.shape)
        return kept, kept.sum(axis=self._time, keepdims=self.keepdims, dtype=x.dtype)

    def _expanded(self, mask: Any, shape: Shape) -> np.ndarray:
        mask = np.asarray(mask, dtype=bool)
        expected = (shape[0], shape[self._time])
        if mask.shape != expected:
            raise ValueError(f"{self.place}: mask must have shape {expected}, got {mask.shape}.")
        return np.expand_dims(mask, 3 - self._time)

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        """Return None: there is no time left."""
        return None


@register_layer("GlobalMaxPool1D")
class GlobalMaxPooling1D(_GlobalPooling1D):
    """Maximum over the steps of a sequence; it heeds no mask, as in Keras.

    Parameters
    ----------
    data_format : {"channels_last", "channels_first"}, optional
        Where the features are: (batch, steps, features) or (batch, features, steps).  None is "channels_last".
    keepdims : bool, default False
        Keep time as an axis of size 1.
    **kwargs
        As for `Layer`.

    Notes
    -----
    A sequence without steps gives minus infinity.  Steps that share the maximum share its gradient, as in Keras.
    """

    def call(self, inputs: Any) -> np.ndarray:
        """Return the maxima."""
        return self.result(self.array(inputs).max(axis=self._time, keepdims=self.keepdims, initial=-np.inf))

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        x = self.array(inputs)
        top = x == x.max(axis=self._time, keepdims=True, initial=-np.inf)

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            ties = np.maximum(top.sum(axis=self._time, keepdims=self.keepdims, dtype=x.dtype), 1)
            return LayerGradients(np.where(top, self._over_time(cotangent / ties, x.shape), 0))

        return self.call(inputs), pull
