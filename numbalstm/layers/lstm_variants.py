"""The LSTM variants beyond Keras: the options of a layer or cell, their weights, and what they make of a pass."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numbalstm import activations, checks, constraints, initializers, regularizers
from numbalstm.backends.interface import Variant
from numbalstm.initializers.base import FromArray
from numbalstm.layers.base import Layer
from numbalstm.parameters import GATES, NORM_ARRAYS, PEEPHOLE_GATES, Weight

_WEIGHTS = {
    "peephole": ("peephole", "glorot_uniform"),
    "projection": ("proj_size", "glorot_uniform"),
    "gamma": ("layer_norm", "ones"),
    "beta": ("layer_norm", "zeros"),
    "initial_state": ("learn_initial_state", "zeros"),
}
"""For each kind of weight the option that makes it, and how its values start."""

WEIGHT_OPTIONS = tuple(f"{kind}_{part}" for kind in _WEIGHTS for part in ("initializer", "regularizer", "constraint"))
"""Names of the options of the variants' weights."""


class LSTMVariants(Layer):
    """Options of the LSTM that Keras does not have.

    With all of them, and what is not asked for left out, a step computes (LN: layer normalisation)::

        z = LN(x K) + LN(h R) + b         in the blocks i, f, g, o
        i = rho(clip(z_i + p_i * c))      f = rho(clip(z_f + p_f * c)), or 1 - i      g = phi(clip(z_g))
        c = cell_clip(f * c + i * g)      o = rho(clip(z_o + p_o * c))
        h = projection_clip((o * phi(LN(c))) W)

    Parameters
    ----------
    peephole : bool, default False
        Peephole connections: weight `peephole_kernel` (3, U), rows p_i, p_f, p_o, each row drawn by itself as Keras's
        PeepholeLSTMCell draws them (Gers and Schmidhuber 2000; ONNX input P, whose rows are i, o, f).
    proj_size : int, default 0
        Width P of h and of the output: weight `projection_kernel` W (U, P).  0: no projection
        (LSTMP of Sak, Senior and Beaufays 2014; ``proj_size`` of PyTorch, ``num_proj`` of TensorFlow 1).
    input_forget : bool, default False
        Coupled gates, f = 1 - i: the columns f of the weights have no effect (ONNX ``input_forget``; CIFG of Greff et
        al. 2017).
    clip : float, optional
        Pre-activations of all gates are clipped to [-clip, clip], peepholes included (ONNX ``clip``).
    cell_clip : float, optional
        c is clipped to [-cell_clip, cell_clip] after its update, before o and h see it (TensorFlow 1 ``cell_clip``).
    projection_clip : float, optional
        The projected h is clipped likewise (TensorFlow 1 ``proj_clip``); needs `proj_size`.
    layer_norm : bool, default False
        Layer normalisation of x K, of h R, each over its 4U columns together, and of c on its way to h (Ba, Kiros and
        Hinton 2016, equations 20 to 22): LN(a) = gamma * (a - mean) / sqrt(variance + epsilon) + beta.  Weights
        `kernel_gamma`, `kernel_beta`, `recurrent_gamma`, `recurrent_beta` (4U,), `cell_gamma`, `cell_beta` (U,).
    layer_norm_epsilon : float, default 1e-5
    zoneout : pair of float in [0, 1], default (0, 0)
        Rates (z_c, z_h) at which, in training, units of c and of h keep their old values, drawn anew for each step; in
        inference a step takes z times the old and 1 - z times the new value (Krueger et al. 2017).
    weight_drop : float in [0, 1], default 0
        Rate at which, in training, elements of `recurrent_kernel` are dropped and the others divided by 1 - rate, one
        draw for all steps of a call (Merity, Keskar and Socher 2018).
    learn_initial_state : bool, default False
        Weights `initial_h` (P,) and `initial_c` (U,) are the states of every row before the first step where a call
        gives none.  Not for stateful layers.
    gate_activations : sequence of 3 or 5, optional
        Activations in place of `activation` and `recurrent_activation`: of 3, in the order of ONNX, for the gates i, f
        and o, for the candidate g, and for the cell state on its way to h; of 5, for i, f, g, o and the cell state.
        `numbalstm.activations.onnx` makes those with alpha and beta.
    **options
        Of the weights above, as `kernel_initializer` and its like are of the others, and None by default:
        ``peephole_initializer`` ("glorot_uniform"), ``peephole_regularizer``, ``peephole_constraint``; likewise
        ``projection_...`` ("glorot_uniform"), ``gamma_...`` ("ones") and ``beta_...`` ("zeros") of layer normalisation,
        and ``initial_state_...`` ("zeros"); and those of `numbalstm.layers.base.Layer`.
    """

    other_arguments = WEIGHT_OPTIONS
    peephole_kernel: Weight | None
    projection_kernel: Weight | None
    initial_h: Weight
    initial_c: Weight

    def __init__(
        self,
        *,
        peephole: bool = False,
        proj_size: int = 0,
        input_forget: bool = False,
        clip: float | None = None,
        cell_clip: float | None = None,
        projection_clip: float | None = None,
        layer_norm: bool = False,
        layer_norm_epsilon: float = 1e-5,
        zoneout: tuple[float, float] = (0.0, 0.0),
        weight_drop: float = 0.0,
        learn_initial_state: bool = False,
        gate_activations: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        where = type(self).__name__
        self.peephole = bool(peephole)
        self.proj_size = checks.integer(where, "proj_size", proj_size, minimum=0)
        self.input_forget = bool(input_forget)
        self.clip = _limit(where, "clip", clip)
        self.cell_clip = _limit(where, "cell_clip", cell_clip)
        self.projection_clip = _limit(where, "projection_clip", projection_clip)
        if self.projection_clip is not None and not self.proj_size:
            raise ValueError(f"{where}: projection_clip needs a projection; give proj_size too.")
        self.layer_norm = bool(layer_norm)
        self.layer_norm_epsilon = checks.number(where, "layer_norm_epsilon", layer_norm_epsilon, minimum=0.0)
        self.zoneout = _rates(where, zoneout)
        self.weight_drop = checks.fraction(where, "weight_drop", weight_drop)
        self.learn_initial_state = bool(learn_initial_state)
        self.gate_activations = self._gate_activations(where, gate_activations)
        self._take_weight_options(where, options)
        super().__init__(**options)
        self._variant = self._make_variant()

    # What other parts of the layer say

    units: int
    activation: activations.Activation
    recurrent_activation: activations.Activation
    draw_factors: Callable[[tuple[int, ...], float], np.ndarray]
    _random: np.random.Generator

    def _gate_activations(self, where: str, given: Any) -> tuple[activations.Activation, ...] | None:
        if given is None:
            return None
        if not isinstance(given, (list, tuple)) or len(given) not in (3, 5):
            raise ValueError(
                f"{where}: gate_activations must be 3 (gates, candidate, cell state) or 5 (i, f, g, o, cell state), "
                f"got {len(given) if isinstance(given, (list, tuple)) else checks.describe(given)}."
            )
        usual = ("tanh", "hard_sigmoid_keras2" if self.generation == "v1" else "sigmoid")
        if (self.activation.name, self.recurrent_activation.name) not in (usual, ("tanh", "sigmoid")):
            raise ValueError(
                f"{where}: gate_activations replace activation and recurrent_activation; leave those at their defaults."
            )
        found = [
            activations.get(one, self._config_form, f"{where}: gate_activations[{index}]")
            for index, one in enumerate(given)
        ]
        return tuple(found) if len(found) == 5 else (found[0], found[0], found[1], found[0], found[2])

    def _make_variant(self) -> Variant | None:
        """Return the variant without zoneout; None where it is the plain LSTM."""
        variant = Variant(
            self.gate_activations, self.input_forget, self.clip, self.cell_clip, self.projection_clip, None
        )
        return None if variant == Variant() else variant

    @property
    def is_variant(self) -> bool:
        """Whether any of these options is not at its default."""
        return bool(self._variant_config())

    @property
    def output_size(self) -> int:
        """Width of h and of the output: `proj_size`, or `units` without a projection."""
        return self.proj_size or self.units

    @property
    def state_size(self) -> list[int]:
        """Widths of h and c."""
        return [self.output_size, self.units]

    # Weights

    def _take_weight_options(self, where: str, options: dict[str, Any]) -> None:
        """Move initializer, regularizer and constraint of each kind of weight from the options to attributes."""
        for kind, (variant, default) in _WEIGHTS.items():
            names = [f"{kind}_{part}" for part in ("initializer", "regularizer", "constraint")]
            given = {name: options.pop(name, None) for name in names}
            for name, value in given.items():
                if value is not None and not getattr(self, variant):
                    raise ValueError(f"{where}: {name} is for weights that are not there; give {variant} too.")
            initializer, regularizer, constraint = given.values()
            setattr(self, names[0], initializers.get(initializer, default, f"{where}: {names[0]}"))
            setattr(self, names[1], regularizers.get(regularizer, f"{where}: {names[1]}"))
            setattr(self, names[2], constraints.get(constraint, f"{where}: {names[2]}"))

    def _add(self, kind: str, name: str, shape: tuple[int, ...]) -> Weight:
        """Add a weight with the options of its kind."""
        initializer = getattr(self, f"{kind}_initializer")
        if kind == "peephole" and not isinstance(initializer, FromArray):
            initializer = Rows(initializer)
        options = (getattr(self, f"{kind}_{part}") for part in ("regularizer", "constraint"))
        return self.add_weight(name, shape, initializer, *options)

    def _add_variant_weights(self) -> None:
        """Add the weights after the bias, in the order of `numbalstm.parameters.WEIGHT_NAMES`."""
        self.peephole_kernel = self.projection_kernel = None
        if self.peephole:
            self.peephole_kernel = self._add("peephole", "peephole_kernel", (len(PEEPHOLE_GATES), self.units))
        if self.proj_size:
            self.projection_kernel = self._add("projection", "projection_kernel", (self.units, self.proj_size))
        if self.layer_norm:
            for name in NORM_ARRAYS:
                width = self.units if name.startswith("cell") else len(GATES) * self.units
                setattr(self, name, self._add(name.partition("_")[2], name, (width,)))
        if self.learn_initial_state:
            self.initial_h = self._add("initial_state", "initial_h", (self.output_size,))
            self.initial_c = self._add("initial_state", "initial_c", (self.units,))

    def learned_start(self, batch: int) -> list[np.ndarray] | None:
        """Return the learned initial states for a batch; None where they are not learned."""
        if not self.learn_initial_state:
            return None
        if not self.built:
            raise ValueError(f"{self.place}: is not built yet, so it has no learned initial state. Build it first.")
        weights = (self.initial_h, self.initial_c)
        return [np.tile(self.policy.to_compute(weight.value), (batch, 1)) for weight in weights]

    # A pass

    def variant_for(self, x: Any, training: Any) -> Variant | None:
        """Return the variant of a pass over x, an array (B, T, F) or a list of (T_i, F); zoneout is drawn in training.

        None is the plain LSTM.
        """
        if self.zoneout == (0.0, 0.0):
            return self._variant
        zones: tuple[Any, Any] = self.zoneout
        if training:
            zones = tuple(
                self._draw_zones(x, rate, width) for rate, width in zip(zones, self.state_size[::-1], strict=True)
            )
        return (self._variant or Variant())._replace(zoneout=zones)

    def _draw_zones(self, x: Any, rate: float, width: int) -> Any:
        """Draw, for each step, which elements of a state keep their old value: 1 with probability `rate`, else 0."""
        if rate == 0.0:
            return None
        if isinstance(x, list):
            return [self._draw_zones(sequence[None], rate, width)[0] for sequence in x]
        return (self._random.random((*x.shape[:2], width)) < rate).astype(self.policy.compute)

    def draw_weight_factors(self) -> np.ndarray | None:
        """Draw factors of the recurrent kernel for a training pass; None without `weight_drop`."""
        if not self.weight_drop:
            return None
        return self.draw_factors((self.output_size, len(GATES) * self.units), self.weight_drop)

    # Config

    def _variant_config(self) -> dict[str, Any]:
        """Return those options that are not at their defaults."""
        config = {name: getattr(self, name) for name, default in _DEFAULTS.items() if getattr(self, name) != default}
        if self.gate_activations is not None:
            config["gate_activations"] = [
                activations.serialize(one, self._config_form) for one in self.gate_activations
            ]
        if "zoneout" in config:
            config["zoneout"] = list(self.zoneout)
        return config

    def _variant_weights_config(self) -> dict[str, Any]:
        """Return initializers, regularizers and constraints of the variants' weights that are not the defaults."""
        config = {}
        for kind, (_, default) in _WEIGHTS.items():
            initializer = getattr(self, f"{kind}_initializer")
            usual = initializers.get(default)
            if type(initializer) is not type(usual) or initializer.get_config() != usual.get_config():
                config[f"{kind}_initializer"] = initializers.serialize(initializer, self._config_form)
            for part, module in (("regularizer", regularizers), ("constraint", constraints)):
                if (value := getattr(self, f"{kind}_{part}")) is not None:
                    config[f"{kind}_{part}"] = module.serialize(value)
        return config


_DEFAULTS = {
    "peephole": False,
    "proj_size": 0,
    "input_forget": False,
    "clip": None,
    "cell_clip": None,
    "projection_clip": None,
    "layer_norm": False,
    "layer_norm_epsilon": 1e-5,
    "zoneout": (0.0, 0.0),
    "weight_drop": 0.0,
    "learn_initial_state": False,
}


class Rows(NamedTuple):
    """Draws each row of a matrix as a vector of its own."""

    initializer: Any

    def __call__(self, shape: tuple[int, int], dtype: Any) -> np.ndarray:
        """Return an array of this shape."""
        initializer = one_stream(self.initializer)
        return np.stack([initializer(shape[1:], dtype) for _ in range(shape[0])])


def one_stream(initializer: Any) -> Any:
    """Return an initializer whose draws go on from call to call, for one that would start again at its seed."""
    seed = getattr(initializer, "seed", None)
    if seed is None or isinstance(seed, np.random.Generator):
        return initializer
    return type(initializer)(**{**initializer.get_config(), "seed": np.random.default_rng(seed)})


def _limit(where: str, name: str, limit: Any) -> float | None:
    if limit is None:
        return None
    limit = checks.number(where, name, limit)
    if limit <= 0:
        raise ValueError(f"{where}: {name} must be above 0 (None: no limit), got {limit:g}.")
    return limit


def _rates(where: str, zoneout: Any) -> tuple[float, float]:
    if not isinstance(zoneout, (list, tuple)) or len(zoneout) != 2:
        raise ValueError(f"{where}: zoneout must be a pair of rates (c, h), got {checks.describe(zoneout)}.")
    rate_c, rate_h = zoneout
    return checks.fraction(where, "zoneout[0]", rate_c), checks.fraction(where, "zoneout[1]", rate_h)
