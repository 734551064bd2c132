"""One vector from a whole sequence."""

from typing import Any

import numpy as np

from numbalstm.layers.base import InputSpec, Layer, register_layer
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
        if mask is None:
            total, count = x.sum(axis=self._time, keepdims=self.keepdims), x.dtype.type(x.shape[self._time])
        else:
            kept = self._expanded(mask, x.shape)
            total = np.where(kept, x, x.dtype.type(0)).sum(axis=self._time, keepdims=self.keepdims)
            count = kept.sum(axis=self._time, keepdims=self.keepdims, dtype=x.dtype)
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.result(total / count)

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
    A sequence without steps gives minus infinity.
    """

    def call(self, inputs: Any) -> np.ndarray:
        """Return the maxima."""
        return self.result(self.array(inputs).max(axis=self._time, keepdims=self.keepdims, initial=-np.inf))
