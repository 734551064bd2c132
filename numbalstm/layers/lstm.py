"""The LSTM layer."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from numbalstm import checks, regularizers
from numbalstm.backends.interface import Trace
from numbalstm.functional import DEVICES, lstm_forward, lstm_trace
from numbalstm.layers.base import register_layer
from numbalstm.layers.gradients import Pull
from numbalstm.layers.lstm_pass import LSTMPass
from numbalstm.layers.lstm_weights import SIGMOID, LSTMWeights, config_of_generation
from numbalstm.layers.sequence import SequenceLayer


@register_layer()
class LSTM(SequenceLayer, LSTMWeights):
    """Long short-term memory layer as Keras defines it.

    Parameters
    ----------
    units : int
        Width U of the state and of the output.
    activation : str, Activation, callable or None, default "tanh"
        For the candidate and for the cell state on its way out.  None: identity.
    recurrent_activation : str, Activation, callable or None, default "sigmoid" ("hard_sigmoid" in generation "v1")
        For the gates i, f and o.  None: identity.
    use_bias : bool, default True
    kernel_initializer, recurrent_initializer, bias_initializer
        Defaults "glorot_uniform", "orthogonal" and "zeros"; None is the default.
    unit_forget_bias : bool, default True
        The forget gate's bias starts at 1, whatever `bias_initializer` says.
    kernel_regularizer, recurrent_regularizer, bias_regularizer, activity_regularizer, optional
        The last for each returned array.
    kernel_constraint, recurrent_constraint, bias_constraint, optional
    dropout, recurrent_dropout : float in [0, 1], default 0
        Rates for the input and for the state that enters the recurrent product, in training.  One draw serves all
        steps of a call.
    seed : int, optional
        For the dropout.  None: drawn by the system.
    return_sequences : bool, default False
        Return the output of every step, not the last one's alone.
    return_state : bool, default False
        Return the final h and c too.
    go_backwards : bool, default False
        Process from the last step to the first; sequences come out in that order.
    stateful : bool, default False
        A call starts from the final states of the call before, row by row; the batch size is fixed.
    unroll : bool, default False
        Accepted; it changes no number.
    use_cudnn : "auto" or bool, default "auto"
        True demands the fused GPU path and raises where it cannot serve.
    time_major : bool, default False
        Inputs, sequences and masks have time as first axis, batch as second.
    zero_output_for_mask : bool, default False
        Masked steps output zeros instead of the row's latest output.
    implementation : {1, 2}, default 2 (1 in generation "v1")
        1 draws dropout factors for each gate; without dropout the two are the same.
    device : {"auto", "cpu", "cuda"}, default "auto"
    weights_dtype : {"bfloat16", "int8"}, optional
        Store the weights narrower for faster, less exact inference: see the attribute.  None: as they are.
    compute_dtype : {"bfloat16"}, optional
        Multiply in bfloat16 for faster, less exact inference: see the attribute.  None: in the layer's dtype.
    checkpoint_every : int, optional
        In `vjp`, keep the states of every so manieth step only and compute the steps between again on the way back, to
        the same bits: about sqrt(T) needs the least memory.  None: keep all.  May be set at any time.
    peephole, proj_size, input_forget, clip, cell_clip, projection_clip, layer_norm, layer_norm_epsilon, zoneout, \
weight_drop, learn_initial_state, gate_activations
        What Keras does not have: see `numbalstm.layers.lstm_variants.LSTMVariants`, also for ``peephole_initializer``
        and the like, which are among **layer_options.
    generation : {"keras3", "keras2", "v1"}, default "keras3"
        Whose rules hold where the generations differ: the meaning of "hard_sigmoid", tuples or lists as results,
        `initial_state` of a stateful layer, dropout factors, the form of the config.
    **layer_options
        ``name``, ``trainable``, ``dtype``, ``input_shape``, ``batch_input_shape``, ``batch_size``, ``weights``: see
        `numbalstm.layers.base.Layer`.

    Raises
    ------
    TypeError, ValueError
        For a value of the wrong kind or out of range, and for an unknown argument.

    Notes
    -----
    Hochreiter and Schmidhuber 1997, with the forget gate of Gers, Schmidhuber and Cummins 2000.
    Weights, in this order: kernel (F, 4U), recurrent_kernel (U, 4U), bias (4U,); gates in the order i, f, g, o.  Those
    of variants follow: peephole_kernel (3, U), projection_kernel (U, P) (h, the output and the rows of recurrent_kernel
    are then P wide), the six of layer normalisation, initial_h (P,) and initial_c (U,).
    float16 and bfloat16 policies compute in float32 on rounded inputs, weights and results.
    """

    def __init__(
        self,
        units: int,
        activation: Any = "tanh",
        recurrent_activation: Any = SIGMOID,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        kernel_regularizer: Any = None,
        recurrent_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        recurrent_constraint: Any = None,
        bias_constraint: Any = None,
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        seed: int | None = None,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        unroll: bool = False,
        use_cudnn: bool | str = "auto",
        *,
        time_major: bool = False,
        zero_output_for_mask: bool = False,
        implementation: int | None = None,
        device: str = "auto",
        weights_dtype: str | None = None,
        compute_dtype: str | None = None,
        checkpoint_every: int | None = None,
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
        gate_activations: Any = None,
        generation: str = "keras3",
        **layer_options: Any,
    ) -> None:
        where = type(self).__name__
        self.use_cudnn = checks.one_of(where, "use_cudnn", use_cudnn, ("auto", True, False))
        self.device = checks.one_of(where, "device", device, DEVICES)
        self.checkpoint_every = checkpoint_every
        if checkpoint_every is not None:
            checks.positive_integer(where, "checkpoint_every", checkpoint_every)
        super().__init__(
            units=units,
            activation=activation,
            recurrent_activation=recurrent_activation,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            unit_forget_bias=unit_forget_bias,
            kernel_regularizer=kernel_regularizer,
            recurrent_regularizer=recurrent_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            recurrent_constraint=recurrent_constraint,
            bias_constraint=bias_constraint,
            dropout=dropout,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            unroll=unroll,
            time_major=time_major,
            zero_output_for_mask=zero_output_for_mask,
            implementation=implementation,
            peephole=peephole,
            proj_size=proj_size,
            input_forget=input_forget,
            clip=clip,
            cell_clip=cell_clip,
            projection_clip=projection_clip,
            layer_norm=layer_norm,
            layer_norm_epsilon=layer_norm_epsilon,
            zoneout=zoneout,
            weight_drop=weight_drop,
            learn_initial_state=learn_initial_state,
            gate_activations=gate_activations,
            generation=generation,
            **layer_options,
        )
        if self.stateful and self.learn_initial_state:
            raise ValueError(f"{where}: learn_initial_state does not go with stateful=True, whose states are stored.")
        self.set_narrow(weights_dtype, compute_dtype)
        # Nothing to settle before or after the computation of a bare array.
        settled = self.stateful or self.time_major or self.policy.half or self.use_cudnn is True
        self._plain = not (settled or self.learn_initial_state or self.variant_for(None, False))

    serves_gpu = True

    @property
    def whole_input_dropout(self) -> bool:
        """Whether the input dropout draws new factors for each step: Keras 2's `LSTM` on its fused path does."""
        return super().whole_input_dropout and not self.unroll

    def build(self, input_shape: Any) -> None:
        """Make the weights.

        Parameters
        ----------
        input_shape : tuple
            (batch, time, features), None where free; (time, batch, features) with `time_major`.

        Raises
        ------
        ValueError
            When there are not 3 axes, the features are unknown, or the layer is stateful and the batch is unknown.
        """
        if not isinstance(input_shape, (list, tuple)) or not input_shape:
            raise ValueError(f"{self.place}: build needs the shape (batch, time, features), got {input_shape!r}.")
        batch, _, rest = self._sequence_shape(input_shape)
        if len(rest) != 1 or rest[0] is None:
            raise ValueError(
                f"{self.place}: inputs must have shape (batch, time, features) with known features, got {input_shape}."
            )
        self._fix_batch(batch)
        self._add_lstm_weights(rest[0])

    def call(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
        dropout_masks: Any = None,
        out: np.ndarray | None = None,
    ) -> Any:
        """Run the layer.

        Parameters
        ----------
        inputs : array_like (B, T, F), (T, B, F) with `time_major`, or list of array_like (T_i, F)
            A list holds sequences of different lengths.  Generations "keras2" and "v1" also take [x, h0, c0].
        mask : array_like (B, T), or (T, B) with `time_major`, optional
            Non-zero: the step counts.
        training : bool, optional
            Whether dropout acts.
        initial_state : pair [h0, c0] of array_like (B, U), optional
            None: zeros, or the stored states of a stateful layer.
        dropout_masks : pair (m_x, m_h), optional
            Factors to use in training instead of drawing them; shapes as in `lstm_forward`, or that of the inputs.
        out : array, optional
            Receives the output and is returned in its place; any strides.  Not for lists and 16-bit policies.

        Returns
        -------
        array or tuple of arrays
            On the GPU where the inputs are there.
            Output (B, U), or with `return_sequences` (B, T, U), (T, B, U) or a list of (T_i, U); with `return_state`
            followed by h and c, each (B, U), in a tuple (a list in generations "keras2" and "v1").

        Raises
        ------
        ValueError
            When a shape, a count or a dtype does not fit.
        """
        if (
            self._plain
            and type(inputs) is np.ndarray
            and mask is None
            and not training
            and initial_state is None
            and dropout_masks is None
        ):
            result = lstm_forward(
                inputs,
                self.parameters,
                activation=self.activation,
                recurrent_activation=self.recurrent_activation,
                return_sequences=self.return_sequences,
                go_backwards=self.go_backwards,
                out=out,
                device=self.device,
                where=self.place,
            )
            return self._returned(result.outputs, result[1:])
        return LSTMPass(self, inputs, mask, training, initial_state, dropout_masks).run(out)

    def _vjp(
        self,
        inputs: Any,
        mask: Any = None,
        training: bool | None = None,
        initial_state: Any = None,
        dropout_masks: Any = None,
        out: np.ndarray | None = None,
    ) -> tuple[Any, Pull]:
        one = LSTMPass(self, inputs, mask, training, initial_state, dropout_masks)
        return one.run(out, tape=True), one.pull

    def trace(self, inputs: Any, mask: Any = None, initial_state: Any = None) -> Trace:
        """Return every gate, cell state and output of a call without dropout.

        Parameters
        ----------
        inputs, mask, initial_state
            As in `call`, but no list of sequences.  A stateful layer starts from its stored states and leaves them.

        Returns
        -------
        Trace
            Arrays i, f, g, o, c (B, T, U) and h (B, T, P) ((T, B, .) with `time_major`), in processing order and in
            the type of the arithmetic.  Gates of masked steps are NaN.

        Raises
        ------
        ValueError
            When a shape, a count or a dtype does not fit.
        """
        self.build(self.shapes_of(inputs))
        inputs, initial_state = self.split_inputs(inputs, initial_state)
        x = self._batch_major(inputs)
        states = self._starting_states(initial_state, len(x))
        result = lstm_trace(
            x,
            self.parameters,
            initial_state=self.learned_start(len(x)) if states is None else states,
            mask=self._batch_major_mask(mask, x),
            activation=self.activation,
            recurrent_activation=self.recurrent_activation,
            go_backwards=self.go_backwards,
            variant=self.variant_for(x, False),
            where=self.place,
        )
        return Trace(*(values.swapaxes(0, 1) if self.time_major else values for values in result))

    # Config

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments as the layer's generation of Keras writes them."""
        regularizer = regularizers.serialize(self.activity_regularizer)
        own = {**self._sequence_config(), **self._cell_config(), "activity_regularizer": regularizer}
        return super().get_config() | own

    def clone(self, **changes: Any) -> "LSTM":
        """Return an unbuilt layer with the same options but for `changes`."""
        kept = {name: getattr(self, name) for name in _KEPT_BY_CLONES}
        return type(self)(**{**self.get_config(), **kept, "dtype": self.policy, **changes})

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "LSTM":
        """Make a layer from a config of Keras 3, Keras 2 or ``tf.compat.v1``; unknown keys raise ValueError.

        A config without a ``generation`` is Keras 3's when it has a ``seed``, else Keras 2's when it has
        ``time_major`` or ``implementation``.
        """
        return cls(**config_of_generation(cls.clean_config(config)))

    def __repr__(self) -> str:
        options = {
            "activation": (self.activation.name, "tanh"),
            "recurrent_activation": (self.recurrent_activation.name, "sigmoid"),
            "use_bias": (self.use_bias, True),
            "dropout": (self.dropout, 0.0),
            "recurrent_dropout": (self.recurrent_dropout, 0.0),
            **{name: (getattr(self, name), False) for name in _SHOWN_FLAGS},
            **{name: (value, None) for name, value in self._variant_config().items()},
            "generation": (self.generation, "keras3"),
            "dtype": (self.policy.name, "float32"),
        }
        shown = "".join(f", {name}={value!r}" for name, (value, default) in options.items() if value != default)
        features = f", features={self.kernel.shape[0]}" if self.built else ""
        return f"LSTM({self.units}{features}{shown}, name={self.name!r})"


_KEPT_BY_CLONES = (
    "generation",
    "implementation",
    "device",
    "use_cudnn",
    "weights_dtype",
    "compute_dtype",
    "checkpoint_every",
)
_SHOWN_FLAGS = (
    "return_sequences",
    "return_state",
    "go_backwards",
    "stateful",
    "time_major",
    "zero_output_for_mask",
)
