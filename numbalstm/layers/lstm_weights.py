"""What the LSTM layer and the LSTM cell share: the options of the cell, its weights, and its dropout."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import activations, checks, constraints, initializers, regularizers
from numbalstm.backends import arguments
from numbalstm.initializers.base import FromArray
from numbalstm.layers.base import Layer
from numbalstm.parameters import GATES, LSTMParameters, Weight, check_narrow

GENERATIONS = ("keras3", "keras2", "v1")
"""Keras 3, the Keras 2 of TensorFlow 2 (and R's `layer_lstm`), and ``tf.compat.v1.keras``."""


class GenerationDefault(str):
    """A default that is another one in generation "v1"; told from the same text given by a caller by its identity."""

    __slots__ = ()


SIGMOID = GenerationDefault("sigmoid")

Factors = tuple[np.ndarray | None, np.ndarray | None]


class LSTMWeights(Layer):
    """Options, weights and dropout of one LSTM; the arguments are described in `numbalstm.LSTM`."""

    def __init__(
        self,
        *,
        units: int,
        activation: Any,
        recurrent_activation: Any,
        use_bias: bool,
        kernel_initializer: Any,
        recurrent_initializer: Any,
        bias_initializer: Any,
        unit_forget_bias: bool,
        kernel_regularizer: Any,
        recurrent_regularizer: Any,
        bias_regularizer: Any,
        kernel_constraint: Any,
        recurrent_constraint: Any,
        bias_constraint: Any,
        dropout: float,
        recurrent_dropout: float,
        seed: int | None,
        implementation: int | None,
        generation: str,
        **layer_options: Any,
    ) -> None:
        where = type(self).__name__
        self.generation = checks.one_of(where, "generation", generation, GENERATIONS)
        self.units = checks.positive_integer(where, "units", units)
        if recurrent_activation is SIGMOID and generation == "v1":
            recurrent_activation = "hard_sigmoid"
        form = self._config_form
        self.activation = activations.get(activation, form, f"{where}: activation")
        self.recurrent_activation = activations.get(recurrent_activation, form, f"{where}: recurrent_activation")
        self.use_bias = bool(use_bias)
        self.unit_forget_bias = bool(unit_forget_bias)
        self.kernel_initializer = _initializer(where, "kernel", kernel_initializer, "glorot_uniform")
        self.recurrent_initializer = _initializer(where, "recurrent", recurrent_initializer, "orthogonal")
        self.bias_initializer = _initializer(where, "bias", bias_initializer, "zeros")
        self.kernel_regularizer = regularizers.get(kernel_regularizer, f"{where}: kernel_regularizer")
        self.recurrent_regularizer = regularizers.get(recurrent_regularizer, f"{where}: recurrent_regularizer")
        self.bias_regularizer = regularizers.get(bias_regularizer, f"{where}: bias_regularizer")
        self.kernel_constraint = constraints.get(kernel_constraint, f"{where}: kernel_constraint")
        self.recurrent_constraint = constraints.get(recurrent_constraint, f"{where}: recurrent_constraint")
        self.bias_constraint = constraints.get(bias_constraint, f"{where}: bias_constraint")
        self.dropout = checks.fraction(where, "dropout", dropout)
        self.recurrent_dropout = checks.fraction(where, "recurrent_dropout", recurrent_dropout)
        self.seed = _seed(where, seed)
        self.implementation = _implementation(where, implementation, generation)
        self._parameters: LSTMParameters | None = None
        self._values: tuple[np.ndarray, ...] = ()
        self._random = np.random.default_rng(self.seed)
        super().__init__(**layer_options)

    # Weights

    def _add_lstm_weights(self, features: int) -> None:
        width = len(GATES) * self.units
        self.kernel = self.add_weight(
            "kernel", (features, width), self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        )
        self.recurrent_kernel = self.add_weight(
            "recurrent_kernel",
            (self.units, width),
            self.recurrent_initializer,
            self.recurrent_regularizer,
            self.recurrent_constraint,
        )
        self.bias: Weight | None = None
        if self.use_bias:
            if isinstance(self.bias_initializer, FromArray):
                checks.shape(self.place, "the initial bias", self.bias_initializer.array, (width,))
            self.bias = self.add_weight(
                "bias", (width,), self._initial_bias, self.bias_regularizer, self.bias_constraint
            )

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return the first bias: by its initializer, but ones for the forget gate under `unit_forget_bias`."""
        if not self.unit_forget_bias:
            return self.bias_initializer(shape, dtype)
        units, initializer = self.units, self.bias_initializer
        ones = np.ones(units, dtype)
        if isinstance(initializer, FromArray):
            i, _, g, o = np.split(initializer(shape, dtype), len(GATES))
            return np.concatenate([i, ones, g, o])
        initializer = _one_stream(initializer)
        return np.concatenate([initializer((units,), dtype), ones, initializer((2 * units,), dtype)])

    _weights_dtype: str | None = None
    _compute_dtype: str | None = None

    @property
    def weights_dtype(self) -> str | None:
        """How inference stores the weights: None (as they are), "bfloat16" or "int8".  May be set at any time.

        Narrow weights are read faster and are less exact; `get_weights` and configs keep the weights as they are.
        "int8" has 255 levels a column, and where the processor multiplies eight-bit integers (AVX-512 VNNI) the input
        and the state are rounded a row at a time too.  float32 arithmetic only.
        """
        return self._weights_dtype

    @weights_dtype.setter
    def weights_dtype(self, value: str | None) -> None:
        self.set_narrow(value, self._compute_dtype)

    @property
    def compute_dtype(self) -> str | None:
        """How inference multiplies: None (in the layer's dtype) or "bfloat16".  May be set at any time.

        With "bfloat16" the weights, the input and the state are rounded to bfloat16 as they enter the products, which
        are summed in float32, on processors with units for that (AMX); elsewhere the weights alone are rounded.
        """
        return self._compute_dtype

    @compute_dtype.setter
    def compute_dtype(self, value: str | None) -> None:
        self.set_narrow(self._weights_dtype, value)

    def set_narrow(self, weights_dtype: str | None, compute_dtype: str | None) -> None:
        """Set `weights_dtype` and `compute_dtype` together; ValueError when they do not fit the layer or each other."""
        check_narrow(self.place, weights_dtype, compute_dtype)
        for name, value in (("weights_dtype", weights_dtype), ("compute_dtype", compute_dtype)):
            if value is not None and self.policy.compute != np.float32:
                raise ValueError(
                    f"{self.place}: {name}={value!r} needs float32 arithmetic, "
                    f"got the dtype policy {self.policy.name!r}."
                )
        self._weights_dtype, self._compute_dtype, self._values = weights_dtype, compute_dtype, ()

    @property
    def parameters(self) -> LSTMParameters:
        """The weights as one record in the type of the arithmetic; the same object until they change.

        The values of the weights become read-only by this, so that no change can go unnoticed.
        """
        bias = self.bias
        values = (self.kernel.value, self.recurrent_kernel.value, *(() if bias is None else (bias.value,)))
        known = self._values
        # Written out, since a generator would cost more than the rest of a call's bookkeeping.
        if known and known[0] is values[0] and known[1] is values[1] and known[-1] is values[-1]:
            return self._parameters
        for value in values:
            value.flags.writeable = False
        arrays = (self.policy.to_compute(value) for value in values)
        narrow = {"weights_dtype": self._weights_dtype, "compute_dtype": self._compute_dtype}
        self._parameters = LSTMParameters(*arrays, **narrow)
        self._values = values
        return self._parameters

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a copy derives from its own weights."""
        return {**self.__dict__, "_parameters": None, "_values": ()}

    # Dropout

    @property
    def whole_input_dropout(self) -> bool:
        """Whether the input dropout draws new factors for each step: Keras 2's `LSTM` on its fused path does."""
        return (
            self.generation == "keras2"
            and self.activation.name == "tanh"
            and self.recurrent_activation.name == "sigmoid"
            and self.recurrent_dropout == 0
            and self.use_bias
        )

    def draw_input_factors(self, batch: int, features: int) -> np.ndarray | None:
        """Draw (B, F) factors of the input, or (4, B, F), one set for each gate, with `implementation` 1."""
        if self.dropout == 0:
            return None
        per_gate = self.implementation == 1 or self.recurrent_dropout > 0
        return self.draw_factors((len(GATES), batch, features) if per_gate else (batch, features), self.dropout)

    def draw_state_factors(self, batch: int) -> np.ndarray | None:
        """Draw (4, B, U) factors of the recurrent input."""
        if self.recurrent_dropout == 0:
            return None
        return self.draw_factors((len(GATES), batch, self.units), self.recurrent_dropout)

    def draw_factors(self, shape: tuple[int, ...], rate: float) -> np.ndarray:
        """Draw dropout factors: 0 with probability `rate`, else 1 / (1 - rate)."""
        factors = np.zeros(shape, self.policy.compute)
        factors[self._random.random(shape) >= rate] = 1.0 / (1.0 - rate) if rate < 1.0 else 0.0
        return factors

    def sequence_factors(self, x: Any, training: Any, given: Any, time_major: bool) -> tuple[Any, Any]:
        """Return x, with factors for each step applied, and the pair of factors for whole sequences (None: none).

        x is batch-major; `given` is what a caller passed as ``dropout_masks``, None to draw in training.
        """
        if given is None:
            if not training or not (self.dropout or self.recurrent_dropout):
                return x, None
            if self.whole_input_dropout:
                return self._drop_each_step(x), None
            return x, (self.draw_input_factors(len(x), self.parameters.features), self.draw_state_factors(len(x)))
        if not training:
            raise ValueError(f"{self.place}: dropout_masks are for training=True; nothing is dropped without it.")
        if not isinstance(given, (list, tuple)) or len(given) != 2:
            raise ValueError(f"{self.place}: dropout_masks must be a pair (m_x, m_h), got {checks.describe(given)}.")
        m_x, m_h = given
        if m_x is None or isinstance(x, list):
            return x, (m_x, m_h)
        m_x = arguments.real_array(self.place, "dropout_masks[0]", m_x, self.policy.compute)
        per_gate = m_x.shape == (len(GATES), len(x), x.shape[2])
        if m_x.ndim == 3 and (self.whole_input_dropout or not per_gate):
            m_x = m_x.swapaxes(0, 1) if time_major else m_x
            if m_x.shape == x.shape:
                return x * m_x, (None, m_h)
        return x, (m_x, m_h)

    def _drop_each_step(self, x: Any) -> Any:
        if isinstance(x, list):
            return [sequence * self.draw_factors(sequence.shape, self.dropout) for sequence in x]
        return x * self.draw_factors(x.shape, self.dropout)

    # Config

    def _cell_config(self) -> dict[str, Any]:
        """Return the options of the cell as a config of the layer's generation holds them."""
        form = self._config_form
        config: dict[str, Any] = {"units": self.units, "use_bias": self.use_bias}
        for name in ("activation", "recurrent_activation"):
            config[name] = activations.serialize(getattr(self, name), form)
        for name in _WEIGHT_NAMES:
            config[f"{name}_initializer"] = initializers.serialize(getattr(self, f"{name}_initializer"), form)
            config[f"{name}_regularizer"] = regularizers.serialize(getattr(self, f"{name}_regularizer"))
            config[f"{name}_constraint"] = constraints.serialize(getattr(self, f"{name}_constraint"))
        config["unit_forget_bias"] = self.unit_forget_bias
        config["dropout"] = self.dropout
        config["recurrent_dropout"] = self.recurrent_dropout
        if self.generation == "keras3" or self.seed is not None:
            config["seed"] = self.seed
        if self.generation != "keras3" and self.seed is not None:
            config["generation"] = self.generation  # a seed alone would speak for Keras 3
        if self.generation != "keras3" or self.implementation != 2:
            config["implementation"] = self.implementation
        return config


_WEIGHT_NAMES = ("kernel", "recurrent", "bias")


def config_of_generation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the generation that wrote it, where it does not say that itself."""
    config = dict(config)
    if "generation" not in config and "seed" not in config and {"time_major", "implementation"} & config.keys():
        config["generation"] = "keras2"
    return config


def _initializer(where: str, weight: str, identifier: Any, default: str) -> Any:
    return initializers.get(identifier, default, f"{where}: {weight}_initializer")


def _one_stream(initializer: Any) -> Any:
    """Return an initializer whose draws go on from call to call, for one that would start again at its seed."""
    seed = getattr(initializer, "seed", None)
    if seed is None or isinstance(seed, np.random.Generator):
        return initializer
    return type(initializer)(**{**initializer.get_config(), "seed": np.random.default_rng(seed)})


def _seed(where: str, seed: Any) -> int | None:
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"{where}: seed must be None or an integer of at least 0, got {checks.describe(seed)}.")
    return int(seed)


def _implementation(where: str, implementation: Any, generation: str) -> int:
    if implementation is None:
        return 1 if generation == "v1" else 2
    if implementation == 0 and type(implementation) is int:
        warnings.warn(f"{where}: implementation=0 is an old name of 1; using 1.", UserWarning, stacklevel=3)
        return 1
    return checks.one_of(where, "implementation", implementation, (1, 2))
