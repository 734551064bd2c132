"""What the LSTM layer and the LSTM cell share: the options of the cell, its weights, and a pass with them."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import activations, checks, constraints, initializers, regularizers
from numbalstm.backends.cuda.arrays import on_host
from numbalstm.backends.interface import Forward, Gradients
from numbalstm.functional import lstm_forward
from numbalstm.initializers import ChronoInitializer
from numbalstm.initializers.base import FromArray
from numbalstm.layers.lstm_dropout import LSTMDropout
from numbalstm.layers.lstm_variants import LSTMVariants, one_stream
from numbalstm.parameters import GATES, NORM_ARRAYS, WEIGHT_NAMES, LSTMParameters, Norm, Weight, check_narrow

GENERATIONS = ("keras3", "keras2", "v1")
"""Keras 3, the Keras 2 of TensorFlow 2 (and R's `layer_lstm`), and ``tf.compat.v1.keras``."""


class GenerationDefault(str):
    """A default that is another one in generation "v1"; told from the same text given by a caller by its identity."""

    __slots__ = ()


SIGMOID = GenerationDefault("sigmoid")


class LSTMWeights(LSTMVariants, LSTMDropout):
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
        self._cached: tuple[LSTMParameters, list[tuple[Weight, np.ndarray]]] | None = None
        self._dropped: tuple[LSTMParameters, np.ndarray, LSTMParameters] | None = None
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
            (self.output_size, width),
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
        self._add_variant_weights()
        named = {name: getattr(self, name) for name in WEIGHT_NAMES + (NORM_ARRAYS if self.layer_norm else ())}
        self._used = {name: weight for name, weight in named.items() if weight is not None}

    def _initial_bias(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return the first bias: by its initializer, but ones for the forget gate under `unit_forget_bias`.

        A `ChronoInitializer` has a start of its own for that gate.
        """
        if not self.unit_forget_bias or isinstance(self.bias_initializer, ChronoInitializer):
            return self.bias_initializer(shape, dtype)
        units, initializer = self.units, self.bias_initializer
        ones = np.ones(units, dtype)
        if isinstance(initializer, FromArray):
            i, _, g, o = np.split(initializer(shape, dtype), len(GATES))
            return np.concatenate([i, ones, g, o])
        initializer = one_stream(initializer)
        return np.concatenate([initializer((units,), dtype), ones, initializer((2 * units,), dtype)])

    _weights_dtype: str | None = None
    _compute_dtype: str | None = None

    @property
    def weights_dtype(self) -> str | None:
        """How inference stores the weights: None (as they are), "bfloat16" or "int8".  May be set at any time.

        Narrow weights are read faster and are less exact; `get_weights` and configs keep the weights as they are.
        "int8" has 255 levels a column, and where the processor multiplies eight-bit integers (AVX-512 VNNI, AMX) the
        input and the state are rounded a row at a time too; an input kernel of up to 16 KB in float32, where nothing
        would be gained, keeps its values.  float32 arithmetic only.
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
        self._weights_dtype, self._compute_dtype, self._cached = weights_dtype, compute_dtype, None

    @property
    def parameters(self) -> LSTMParameters:
        """The weights as one record in the type of the arithmetic; the same object until they change.

        The values of the weights become read-only by this, so that no change can go unnoticed.
        """
        cached = self._cached
        if cached is not None:
            for weight, value in cached[1]:
                if weight.value is not value:
                    break
            else:
                return cached[0]
        if not self.built:
            raise ValueError(
                f"{self.place}: is not built yet, so it has no parameters. "
                "Call it on arrays, or build(input_shape), first."
            )
        known = [(weight, weight.value) for weight in self._used.values()]
        for _, value in known:
            value.flags.writeable = False
        arrays = {name: self.policy.to_compute(weight.value) for name, weight in self._used.items()}
        norm = None
        if self.layer_norm:
            norm = Norm(*(arrays.pop(name) for name in NORM_ARRAYS), self.layer_norm_epsilon)
        narrow = {"weights_dtype": self._weights_dtype, "compute_dtype": self._compute_dtype}
        parameters = LSTMParameters(**arrays, norm=norm, **narrow)
        self._cached = parameters, known  # in one, for other threads
        return parameters

    def _with_factors(self, parameters: LSTMParameters, factors: np.ndarray) -> LSTMParameters:
        """Return the record with factors on the recurrent kernel; the same object for the steps of a cell."""
        latest = self._dropped
        if latest is not None and latest[0] is parameters and latest[1] is factors:
            return latest[2]
        matrix = self.policy.to_compute(self.recurrent_kernel.value) * factors
        matrix.flags.writeable = False  # so that the record need not copy it
        dropped = parameters.with_recurrent_kernel(matrix)
        self._dropped = parameters, factors, dropped
        return dropped

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what a copy derives from its own weights."""
        return {**self.__dict__, "_cached": None, "_dropped": None}

    # A pass

    def run_sequence(
        self,
        x: Any,
        *,
        training: Any = False,
        initial_state: Any = None,
        weight_factors: np.ndarray | None = None,
        **options: Any,
    ) -> Forward:
        """Run `lstm_forward` with this LSTM's weights, activations and variants.

        Parameters
        ----------
        x, initial_state, **options
            As for `lstm_forward`.  An `initial_state` of None is the learned one, if there is one.
        training : bool
            Whether zoneout draws.
        weight_factors : array, optional
            What `draw_weight_factors` returned for a training pass.
        """
        parameters = self.parameters
        if weight_factors is not None:
            parameters = self._with_factors(parameters, weight_factors)
        return lstm_forward(
            x,
            parameters,
            initial_state=self.learned_start(len(x)) if initial_state is None else initial_state,
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            variant=self.variant_for(x, training),
            **options,
        )

    def weight_gradients(
        self, found: Gradients, weight_factors: np.ndarray | None = None, learned: bool = True
    ) -> dict[Weight, np.ndarray]:
        """Return the gradients of a `run_sequence` by weight; `learned`: no initial state had been given."""
        gradients = {weight: found.parameters[name] for name, weight in self._used.items()}
        if weight_factors is not None:
            gradients[self.recurrent_kernel] = gradients[self.recurrent_kernel] * weight_factors
        if learned and self.learn_initial_state:
            gradients |= {self.initial_h: on_host(found.h).sum(axis=0), self.initial_c: on_host(found.c).sum(axis=0)}
        return gradients

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
        return config | self._variant_config() | self._variant_weights_config()


_WEIGHT_NAMES = ("kernel", "recurrent", "bias")


def config_of_generation(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with the generation that wrote it, where it does not say that itself."""
    config = dict(config)
    if "generation" not in config and "seed" not in config and {"time_major", "implementation"} & config.keys():
        config["generation"] = "keras2"
    return config


def _initializer(where: str, weight: str, identifier: Any, default: str) -> Any:
    return initializers.get(identifier, default, f"{where}: {weight}_initializer")


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
