"""Dropout: noise in training, nothing in inference."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from numbalstm import checks
from numbalstm.layers.base import InputSpec, Layer, register_layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.symbolic import Shape


@register_layer()
class Dropout(Layer):
    """Set elements to zero at random in training, and scale the others up so that the mean stays.

    Parameters
    ----------
    rate : float in [0, 1]
        Share of the elements that is dropped.
    noise_shape : sequence of int or None, optional
        Shape of the drawn noise, broadcast over the inputs; None inside it is the input's size.  None: the input's.
    seed : int, optional
        None draws a fresh seed.
    **kwargs
        As for `Layer`.

    Notes
    -----
    Inverted dropout: kept elements are divided by ``1 - rate``; with ``rate=1`` all are zero.  The generator is the
    layer's own and goes on from call to call; `reset_seed` starts it again.
    """

    supports_mask = True

    def __init__(
        self, rate: float, noise_shape: Sequence[int | None] | None = None, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        where = type(self).__name__
        self.rate = checks.fraction(where, "rate", rate)
        self.seed = None if seed is None else checks.integer(where, "seed", seed, minimum=0)
        self.noise_shape = None if noise_shape is None else _noise_shape(where, noise_shape)
        self.reset_seed()

    def reset_seed(self) -> None:
        """Start the random numbers again from `seed`."""
        self._generator = np.random.default_rng(self.seed)

    def call(self, inputs: Any, training: bool | None = None) -> np.ndarray:
        """Return the inputs, with noise when `training` is true."""
        x = self.array(inputs, keep_integers=not training)
        return self.result(self._scaled(x, self._draw(x.shape, training)))

    def _vjp(self, inputs: Any, training: bool | None = None) -> tuple[np.ndarray, Pull]:
        x = self.array(inputs, keep_integers=not training)
        kept = self._draw(x.shape, training)
        return self.result(self._scaled(x, kept)), lambda cotangent, _: LayerGradients(self._scaled(cotangent, kept))

    def _draw(self, shape: Shape, training: bool | None) -> np.ndarray | None:
        """Draw which elements are kept; None: all, unscaled."""
        if not training or self.rate == 0.0:
            return None
        return self._generator.random(self.noise_of(shape)) >= self.rate if self.rate < 1.0 else np.zeros(shape, bool)

    def _scaled(self, x: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
        if kept is None:
            return x
        return np.where(kept, x / x.dtype.type(1.0 - self.rate or 1.0), x.dtype.type(0))

    def noise_of(self, shape: Shape) -> Shape:
        """Return the shape of the noise for inputs of this shape."""
        if self.noise_shape is None:
            return shape
        if len(self.noise_shape) != len(shape):
            raise ValueError(f"{self.place}: noise_shape {self.noise_shape} does not fit an input of shape {shape}.")
        return tuple(size if noise is None else noise for noise, size in zip(self.noise_shape, shape, strict=True))

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {"rate": self.rate, "seed": self.seed, "noise_shape": self.noise_shape}


@register_layer()
class SpatialDropout1D(Dropout):
    """Dropout of whole features: what is dropped is dropped in all steps of a sequence.

    Parameters
    ----------
    rate : float in [0, 1]
        Share of the features that is dropped.
    seed : int, optional
        None draws a fresh seed.
    **kwargs
        As for `Layer`.

    References
    ----------
    Tompson et al. (2015), Efficient object localization using convolutional networks, section 3.2.
    """

    harmless_config: ClassVar[dict[str, tuple]] = {"noise_shape": (None,)}

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(rate, seed=seed, **kwargs)
        self.input_spec = InputSpec(rank=3)

    def noise_of(self, shape: Shape) -> Shape:
        """Return (batch, 1, features)."""
        return (shape[0], 1, shape[2])

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values; Keras 3 knows no more than these here."""
        config = super().get_config()
        return {key: config[key] for key in ("rate", "seed", "name", "dtype")}


def _noise_shape(where: str, shape: Any) -> Shape:
    if not isinstance(shape, (list, tuple)):
        raise TypeError(f"{where}: noise_shape must be a tuple of integers and None, got {checks.describe(shape)}.")
    return tuple(None if size is None else checks.positive_integer(where, "noise_shape", size) for size in shape)
