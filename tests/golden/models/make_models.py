"""Make the small model files beside this script with the real frameworks, one process for each of them.

    KERAS_BACKEND=tensorflow python make_models.py keras3      # needs keras 3 and tensorflow
    python make_models.py keras2                               # needs tf_keras and tensorflow

Each model is saved in every format its framework has: NAME.keras, NAME.h5, NAME.weights.h5 and (Keras 2)
NAME.topological.h5, with the inputs x0.. and the framework's outputs y0.. in NAME.expected.npz. Weights are random and
asymmetric; nothing is trained. All files of a generation, byte for byte as the framework wrote them, go into keras3.zip
or keras2.zip.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def randomize(model, rng):
    """Give every weight a distinct random value, also those that start at zero or one."""
    for weight in model.weights:
        values = rng.normal(0, 0.5, weight.shape)
        positive = "variance" in weight.name
        weight.assign(np.abs(values) + 0.5 if positive else values)


def functional_models(keras):
    layers, Model, Input = keras.layers, keras.Model, keras.Input

    past, known = Input((7, 3), name="past"), Input((5, 2), name="known")
    sequence, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="encoder")(past)
    decoded = layers.LSTM(4, return_sequences=True, name="decoder")(known, initial_state=[h, c])
    forecast = layers.TimeDistributed(layers.Dense(2, activation="tanh"), name="forecast")(decoded)
    summary = layers.GlobalAveragePooling1D(name="pool")(sequence)
    yield "seq2seq", Model([past, known], [forecast, layers.Dense(3, name="label")(summary)])

    inner = keras.Sequential(name="inner")
    for layer in (Input((6, 3)), layers.LSTM(5, return_sequences=True), layers.BatchNormalization(), layers.Dense(2)):
        inner.add(layer)
    x = Input((6, 3), name="x")
    joined = layers.Concatenate()([inner(x), layers.LayerNormalization()(x)])
    yield "nested", Model(x, layers.LSTM(3)(layers.BatchNormalization()(joined)))

    a, b = Input((5, 2), name="a"), Input((5, 2), name="b")
    shared = layers.LSTM(3, name="shared")
    u, v = shared(a), shared(b)
    merged = [layers.Add()([u, v]), layers.Multiply()([u, v]), layers.Average()([u, v]), u]
    yield "shared", Model([a, b], layers.Dense(2)(layers.Concatenate()(merged)))


def model_of_models(keras):
    layers, Model, Input = keras.layers, keras.Model, keras.Input
    x = Input((5, 2), name="x")
    sequence, *states = layers.LSTM(3, return_sequences=True, return_state=True)(x)
    encoder = Model(x, [layers.Dense(2, activation="tanh")(sequence), *states], name="encoder")
    left, right = Input((5, 2), name="left"), Input((5, 2), name="right")
    coded, *states = encoder(left)
    again = encoder(right)[0]
    return Model([left, right], layers.LSTM(3)(layers.Add()([coded, again]), initial_state=states))


def sequential_models(keras):
    layers = keras.layers
    Input, Sequential = keras.Input, keras.Sequential
    yield (
        "cells",
        Sequential(
            [
                Input((6, 3)),
                layers.RNN([layers.LSTMCell(4), layers.LSTMCell(5, use_bias=False)], return_sequences=True),
                layers.RNN(layers.StackedRNNCells([layers.LSTMCell(3), layers.LSTMCell(2)]), return_sequences=True),
                layers.RNN(layers.LSTMCell(4, activation="relu"), go_backwards=True),
            ]
        ),
    )
    yield (
        "wrappers",
        Sequential(
            [
                Input((6, 3)),
                layers.Bidirectional(layers.LSTM(4, return_sequences=True), merge_mode="sum"),
                layers.TimeDistributed(layers.Dense(3, activation="relu")),
                layers.Bidirectional(
                    layers.LSTM(4, activation="softsign"),
                    backward_layer=layers.LSTM(3, go_backwards=True, use_bias=False),
                ),
            ]
        ),
    )
    yield (
        "assorted",
        Sequential(
            [
                Input((6, 3)),
                layers.Masking(0.0),
                layers.SpatialDropout1D(0.25),
                layers.LSTM(4, dropout=0.2, recurrent_dropout=0.1),
                layers.RepeatVector(5),
                layers.LSTM(6, return_sequences=True, go_backwards=True),
                layers.Activation("softsign"),
                layers.Reshape((10, 3)),
                layers.GlobalMaxPooling1D(),
                layers.Dropout(0.5),
                layers.Dense(4, use_bias=False),
                layers.Reshape((2, 2)),
                layers.Flatten(),
            ]
        ),
    )
    yield "hard_sigmoid", Sequential([Input((6, 3)), layers.LSTM(5, recurrent_activation="hard_sigmoid")])
    yield (
        "frozen",
        Sequential(
            [
                Input((6, 3)),
                layers.LSTM(4, return_sequences=True, trainable=False),
                layers.BatchNormalization(scale=False, trainable=False),
                layers.LSTM(3),
            ]
        ),
    )


def options_model(keras, **own):
    """An LSTM with every constructor argument away from its default."""
    layers = keras.layers
    options = dict(
        activation="softplus",
        recurrent_activation="softsign",
        kernel_initializer=keras.initializers.TruncatedNormal(0.1, 0.2),
        recurrent_initializer=keras.initializers.Orthogonal(1.5),
        bias_initializer="ones",
        unit_forget_bias=False,
        kernel_regularizer=keras.regularizers.L1L2(0.01, 0.02),
        recurrent_regularizer="l2",
        bias_regularizer="l1",
        activity_regularizer=keras.regularizers.L2(0.03),
        kernel_constraint=keras.constraints.MaxNorm(2.0, axis=1),
        recurrent_constraint="unit_norm",
        bias_constraint=keras.constraints.MinMaxNorm(0.1, 1.9),
        dropout=0.1,
        recurrent_dropout=0.2,
        return_sequences=True,
        go_backwards=True,
        stateful=True,
        unroll=True,
    )
    inputs = keras.Input(batch_shape=(4, 6, 3))
    return keras.Model(inputs, layers.LSTM(5, **options, **own)(inputs))


def embedding_model(keras):
    layers = keras.layers
    return keras.Sequential([keras.Input((6,), dtype="int32"), layers.Embedding(9, 3, mask_zero=True), layers.LSTM(4)])


def refused_models(keras):
    layers = keras.layers
    x = keras.Input((8, 3))

    @keras.saving.register_keras_serializable("golden")
    class Doubling(layers.Layer):
        def call(self, inputs):
            return inputs * 2

    @keras.saving.register_keras_serializable("golden")
    def doubled(values):
        return values * 2

    gru = [layers.GRU(3, return_sequences=True), layers.Conv1D(2, 3)]
    yield "refused_gru", keras.Sequential([x, *gru, layers.LSTM(2)])
    activated = layers.Bidirectional(layers.LSTM(2, activation=doubled))
    yield "refused_activation", keras.Sequential([keras.Input((8, 3)), activated])
    yield "refused_lambda", keras.Sequential([keras.Input((8, 3)), layers.Lambda(lambda t: t * 2), layers.LSTM(2)])
    yield "refused_custom", keras.Sequential([keras.Input((8, 3)), Doubling(), layers.LSTM(2)])


def batch(model, rng):
    arrays = []
    for tensor in model.inputs:
        shape = (4, *tensor.shape[1:])
        if "int" in str(tensor.dtype):
            arrays.append(np.array(rng.integers(0, 9, shape), "int32"))
            continue
        x = rng.normal(size=shape).astype("float32")
        x[1, -2:] = 0  # so that Masking has something to hide
        x[2, 1] = 0
        arrays.append(x)
    return arrays


def save(model, stem, rng, formats, expected=True):
    if expected:
        randomize(model, rng)
        inputs = batch(model, rng)
        outputs = model(inputs if len(inputs) > 1 else inputs[0], training=False)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        outputs = [np.asarray(y) for y in outputs]
        outputs = [y if y.dtype.kind == "f" else y.astype("float32") for y in outputs]  # NumPy files hold no bfloat16
        arrays = {f"x{i}": x for i, x in enumerate(inputs)} | {f"y{i}": y for i, y in enumerate(outputs)}
        np.savez_compressed(f"{stem}.expected.npz", **arrays)
    for ending in formats:
        path = f"{stem}{ending}"
        if ending in (".weights.h5", ".topological.h5"):
            model.save_weights(path)
        else:
            model.save(path)


def model_with_policy(keras, policy):
    namespace = getattr(keras, "config", keras.mixed_precision)
    set_policy = getattr(namespace, "set_dtype_policy", None) or namespace.set_global_policy
    set_policy(policy)
    layers = keras.layers
    first = layers.LSTM(4, return_sequences=True, recurrent_initializer="glorot_uniform")  # no QR in bfloat16
    second = layers.LSTM(3, recurrent_initializer="glorot_uniform")
    model = keras.Sequential([keras.Input((6, 3)), first, second, layers.Dense(2)])
    set_policy("float32")
    return model


def make_all(generation, folder):
    if generation == "keras3":
        import keras

        formats, plain, policies = (".keras", ".h5"), (".keras", ".h5"), ("float64", "mixed_float16", "bfloat16")
        options = options_model(keras, zero_output_for_mask=True, seed=11, use_cudnn=False)
    else:
        import tf_keras as keras

        formats, plain, policies = (".keras", ".h5", ".topological.h5"), (".h5",), ("float64", "mixed_float16")
        options = options_model(keras, time_major=False, implementation=1)

    rng = np.random.default_rng(7)
    for name, model in [*functional_models(keras), *sequential_models(keras)]:
        save(model, f"{folder}/{name}", rng, formats)
    save(model, f"{folder}/{name}", rng, (*formats, ".weights.h5"))
    save(options, f"{folder}/options", rng, plain)
    save(embedding_model(keras), f"{folder}/embedding", rng, plain)
    for policy in policies:
        save(model_with_policy(keras, policy), f"{folder}/{policy}", rng, plain)
    save(model_of_models(keras), f"{folder}/parts", rng, formats)
    for name, model in refused_models(keras):
        save(model, f"{folder}/{name}", rng, plain, expected=False)


def main(generation):
    with tempfile.TemporaryDirectory() as folder:
        make_all(generation, folder)
        with zipfile.ZipFile(HERE / f"{generation}.zip", "w", zipfile.ZIP_LZMA) as archive:
            for path in sorted(Path(folder).iterdir()):
                archive.write(path, path.name)


if __name__ == "__main__":
    main(sys.argv[1])
