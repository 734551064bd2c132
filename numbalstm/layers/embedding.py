"""Integers to vectors."""

from typing import Any

import numpy as np

from numbalstm import checks, constraints, initializers, regularizers
from numbalstm.layers.base import Layer, register_layer
from numbalstm.layers.gradients import LayerGradients, Pull
from numbalstm.layers.symbolic import Shape


@register_layer()
class Embedding(Layer):
    """Look up a row of a table for every integer.

    Parameters
    ----------
    input_dim : int
        Number of rows: the largest integer + 1.
    output_dim : int
        Length of a row.
    embeddings_initializer : default "uniform"
    embeddings_regularizer, activity_regularizer, embeddings_constraint : optional
    mask_zero : bool, default False
        0 marks padding: the layer's mask is True where the integer is not 0.
    weights : array or list of one array, optional
        The table's values.
    input_length : int, optional
        Length of the sequences (Keras 2); fixes the input shape.
    **kwargs
        As for `Layer`.

    Notes
    -----
    Weight: ``embeddings`` (input_dim, output_dim).  An integer outside of the table is a ValueError (Keras: an error on
    the CPU, zeros on a GPU).
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        embeddings_regularizer: Any = None,
        activity_regularizer: Any = None,
        embeddings_constraint: Any = None,
        mask_zero: bool = False,
        weights: Any = None,
        input_length: int | None = None,
        **kwargs: Any,
    ) -> None:
        if weights is not None and not isinstance(weights, list):
            weights = [weights]
        if input_length is not None and not {"input_shape", "batch_input_shape"} & set(kwargs):
            kwargs["input_shape"] = (checks.positive_integer("Embedding", "input_length", input_length),)
        super().__init__(activity_regularizer=activity_regularizer, weights=weights, **kwargs)
        self.input_dim = checks.positive_integer("Embedding", "input_dim", input_dim)
        self.output_dim = checks.positive_integer("Embedding", "output_dim", output_dim)
        self.embeddings_initializer = initializers.get(
            embeddings_initializer, "uniform", "Embedding: embeddings_initializer"
        )
        self.embeddings_regularizer = regularizers.get(embeddings_regularizer, "Embedding: embeddings_regularizer")
        self.embeddings_constraint = constraints.get(embeddings_constraint, "Embedding: embeddings_constraint")
        self.mask_zero = self.supports_mask = bool(mask_zero)

    def build(self, input_shape: Any = None) -> None:
        """Make the table; the input shape does not matter."""
        self.embeddings = self.add_weight(
            "embeddings",
            (self.input_dim, self.output_dim),
            self.embeddings_initializer,
            self.embeddings_regularizer,
            self.embeddings_constraint,
        )

    def call(self, inputs: Any) -> np.ndarray:
        """Return the rows, (..., output_dim), for integers (...)."""
        rows = np.take(self.embeddings.value, self._indices(inputs), axis=0)
        return self.policy.to_output(self.policy.to_compute(rows))

    def _vjp(self, inputs: Any) -> tuple[np.ndarray, Pull]:
        used, places = np.unique(self._indices(inputs), return_inverse=True)
        order = np.argsort(places, axis=None, kind="stable")

        def pull(cotangent: np.ndarray, _: bool) -> LayerGradients:
            table = np.zeros(self.embeddings.shape, cotangent.dtype)
            if used.size:
                rows = cotangent.reshape(-1, self.output_dim)[order]
                table[used] = np.add.reduceat(rows, np.searchsorted(places.reshape(-1)[order], np.arange(used.size)))
            return LayerGradients(None, weights={self.embeddings: table})

        return self.call(inputs), pull

    def _indices(self, inputs: Any) -> np.ndarray:
        found = np.asarray(inputs)
        if found.dtype.kind not in "iufb":
            raise TypeError(f"{self.place}: the input must hold integers, got dtype {found.dtype}.")
        with np.errstate(invalid="ignore"):  # what is no integer is refused below
            indices = found if found.dtype.kind in "iu" else found.astype(np.int64)
        if found.dtype.kind == "f" and not np.array_equal(indices, found):
            raise ValueError(f"{self.place}: the input must hold integers, got other numbers of dtype {found.dtype}.")
        if indices.size and (indices.min() < 0 or indices.max() >= self.input_dim):
            bad = indices.min() if indices.min() < 0 else indices.max()
            raise ValueError(f"{self.place}: integers must be in 0..{self.input_dim - 1}, got {bad}.")
        return indices

    @property
    def input_dtype(self) -> str:
        """Integers, so that none is rounded to a float."""
        return "int64"

    def compute_mask(self, inputs: Any, mask: Any = None) -> np.ndarray | None:
        """Return where the integers are not 0, or None without `mask_zero`; a given mask does not matter."""
        return np.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the input shape with `output_dim` behind."""
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as plain values."""
        return super().get_config() | {
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": initializers.serialize(self.embeddings_initializer),
            "embeddings_regularizer": regularizers.serialize(self.embeddings_regularizer),
            "activity_regularizer": regularizers.serialize(self.activity_regularizer),
            "embeddings_constraint": constraints.serialize(self.embeddings_constraint),
            "mask_zero": self.mask_zero,
        }
