"""Make core_layers.npz: models of the real Keras with random weights, their inputs, outputs and masks' effects.

Run twice, in an environment with TensorFlow, Keras 3 and tf_keras:

    python tests/golden/make_core_layers.py keras3 && python tests/golden/make_core_layers.py keras2

Each run replaces the cases of its generation.  Made with Keras 3.15.1 and tf_keras 2.21.0 on TensorFlow 2.21, CPU.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
import numpy as np

GENERATION = sys.argv[1]
if GENERATION == "keras3":
    import keras
else:
    import tf_keras as keras
layers = keras.layers
PATH = Path(__file__).with_name("core_layers.npz")
STEPS, FEATURES = 5, 3

random = np.random.default_rng(20260)
arrays: dict[str, np.ndarray] = {}


def sequences(batch=4, steps=STEPS, features=FEATURES):
    """Sequences of which some steps are zero and some are 2: what Masking layers mark."""
    x = random.standard_normal((batch, steps, features)).astype("float32")
    x[0, 3:] = 0.0
    x[1, 0] = x[1, 2] = 0.0
    x[2, 1] = 2.0
    x[3, 2, 0] = 0.0
    return x


def ids(batch=4, steps=STEPS):
    found = random.integers(0, 7, (batch, steps)).astype("int32")
    found[:, 0] = [1, 0, 3, 4]
    found[0, 3:] = 0
    return found


def random_weights(model):
    values = []
    for weight in model.weights:
        value = random.standard_normal(weight.shape) * 0.6
        values.append(np.abs(value) + 0.3 if "variance" in weight.name else value)
    model.set_weights(values)


def save(name, inputs, outputs, *data):
    """Save one case: a model between symbolic inputs and outputs, and what it makes of data."""
    model = keras.Model(inputs, outputs, name=name)
    random_weights(model)
    result = model.predict(data[0] if len(data) == 1 else list(data), verbose=0)
    results = list(result.values()) if isinstance(result, dict) else result if isinstance(result, list) else [result]
    prefix = f"{GENERATION}/{name}"
    arrays[f"{prefix}/config"] = np.array(json.dumps(model.get_config()))
    for kind, values in (("w", model.get_weights()), ("x", data), ("y", results)):
        for index, value in enumerate(values):
            arrays[f"{prefix}/{kind}{index}"] = np.asarray(value)


def memory(**options):
    return layers.LSTM(2, return_sequences=True, **options)


def single_layers():
    for dtype in ("float32", "float64"):
        for name, make in {
            "dense": lambda d: layers.Dense(4, activation="softmax", dtype=d),
            "dense_no_bias": lambda d: layers.Dense(2, activation="relu", use_bias=False, dtype=d),
            "activation": lambda d: layers.Activation("softsign", dtype=d),
            "layernorm": lambda d: layers.LayerNormalization(dtype=d),
            "layernorm_axes": lambda d: layers.LayerNormalization(axis=[2, 1], epsilon=1e-2, dtype=d),
            "layernorm_bare": lambda d: layers.LayerNormalization(axis=1, center=False, scale=False, dtype=d),
            "batchnorm": lambda d: layers.BatchNormalization(dtype=d),
            "batchnorm_axis": lambda d: layers.BatchNormalization(axis=1, scale=False, epsilon=0.1, dtype=d),
            "mean": lambda d: layers.GlobalAveragePooling1D(dtype=d),
            "mean_first": lambda d: layers.GlobalAveragePooling1D("channels_first", keepdims=True, dtype=d),
            "max": lambda d: layers.GlobalMaxPooling1D(keepdims=True, dtype=d),
            "max_first": lambda d: layers.GlobalMaxPooling1D("channels_first", dtype=d),
            "masking": lambda d: layers.Masking(2.0, dtype=d),
            "flatten": lambda d: layers.Flatten(dtype=d),
            "flatten_first": lambda d: layers.Flatten("channels_first", dtype=d),
            "reshape": lambda d: layers.Reshape((FEATURES, -1), dtype=d),
            "dropout": lambda d: layers.Dropout(0.4, dtype=d),
            "spatial_dropout": lambda d: layers.SpatialDropout1D(0.4, dtype=d),
        }.items():
            if name == "layernorm_axes" and GENERATION == "keras2":  # tf_keras 2.21 fails on several axes
                continue
            x = keras.Input((STEPS, FEATURES), dtype=dtype)
            save(f"{name}_{dtype}", x, make(dtype)(x), sequences().astype(dtype))
    x = keras.Input((FEATURES,))
    save("repeat", x, layers.RepeatVector(3)(x), sequences()[:, 0])
    x = keras.Input((STEPS,), dtype="int32")
    save("embedding", x, layers.Embedding(7, 3)(x), ids())


def merges():
    x, y, z = keras.Input((STEPS, 3)), keras.Input((STEPS, 2)), keras.Input((4, 3))
    save("concatenate", [x, y], layers.Concatenate()([x, y]), sequences(), sequences(features=2))
    save("concatenate_steps", [x, z], layers.Concatenate(axis=1)([x, z]), sequences(), sequences(steps=4))
    a, b = keras.Input((STEPS, 3)), keras.Input((1, 3))
    for kind in (layers.Add, layers.Multiply, layers.Average):
        data = sequences(), sequences(), sequences(steps=4)[:, :1]
        save(f"{kind.__name__.lower()}_broadcast", [x, a, b], kind()([x, a, b]), *data)


def masks():
    def case(name, make, *data):
        x = keras.Input((STEPS, FEATURES))
        first, second = layers.Masking()(x), layers.Masking(2.0)(x)
        save(f"mask_{name}", x, make(x, first, second), *(data or (sequences(),)))

    case("lstm", lambda x, m, n: memory()(m))
    case("concatenate", lambda x, m, n: memory()(layers.Concatenate()([m, n])))
    case("concatenate_half", lambda x, m, n: memory()(layers.Concatenate()([m, x])))
    case("concatenate_steps", lambda x, m, n: memory()(layers.Concatenate(axis=1)([m, n])))
    case("add", lambda x, m, n: memory()(layers.Add()([m, n])))
    case("add_half", lambda x, m, n: memory()(layers.Add()([m, x])))
    case("average", lambda x, m, n: memory()(layers.Average()([m, n])))
    case("multiply", lambda x, m, n: memory()(layers.Multiply()([m, n])))
    case("multiply_half", lambda x, m, n: layers.Multiply()([layers.Dense(3)(m), x]))
    case("multiply_values", lambda x, m, n: layers.Multiply()([layers.Dense(3)(m), layers.Dense(3)(n)]))
    case("mean", lambda x, m, n: layers.GlobalAveragePooling1D()(layers.Dense(2)(m)))
    case("max", lambda x, m, n: layers.GlobalMaxPooling1D()(layers.Dense(2)(m)))
    case("flatten", lambda x, m, n: layers.Flatten()(m))
    case(
        "through",
        lambda x, m, n: memory()(
            layers.Activation("tanh")(
                layers.Dropout(0.3)(
                    layers.SpatialDropout1D(0.3)(
                        layers.LayerNormalization()(layers.BatchNormalization()(layers.Dense(4)(m)))
                    )
                )
            )
        ),
    )
    case("lost_in_reshape", lambda x, m, n: memory()(layers.Reshape((STEPS, FEATURES))(m)))
    case("lstm_chain", lambda x, m, n: layers.LSTM(3)(memory(go_backwards=True)(memory()(m))))
    case("bidirectional", lambda x, m, n: layers.Bidirectional(layers.LSTM(2), merge_mode="sum")(memory()(m)))
    case("time_distributed", lambda x, m, n: memory()(layers.TimeDistributed(layers.Dense(2))(m)))
    case("masking_twice", lambda x, m, n: memory()(layers.Masking(2.0)(m)))

    i = keras.Input((STEPS,), dtype="int32")
    e = layers.Embedding(7, 3, mask_zero=True)(i)
    save("mask_embedding_mean", i, layers.GlobalAveragePooling1D()(e), ids())
    save("mask_embedding_lstm", i, [memory()(e), layers.LSTM(3)(e)], ids())


def graphs():
    e, d = keras.Input((STEPS,), dtype="int32", name="source"), keras.Input((4,), dtype="int32", name="target")
    embedding = layers.Embedding(7, 3, mask_zero=True)
    _, h, c = layers.LSTM(2, return_state=True)(embedding(e))
    decoded = memory()(embedding(d), initial_state=[h, c])
    save("encoder_decoder", [e, d], layers.Dense(3, activation="softmax")(decoded), ids(), ids(steps=4))

    a, b = keras.Input((STEPS, 3), name="a"), keras.Input((STEPS, 3), name="b")
    shared, scale = layers.LSTM(2), layers.Dense(3)
    both = layers.Concatenate()([shared(scale(a)), shared(b)])
    save("shared", [a, b], [layers.Dense(2)(both), shared(scale(scale(b)))], sequences(), sequences())

    x = keras.Input((STEPS, 3), name="x")
    y = memory()(layers.Masking()(x))
    inner = keras.Model(x, [y, layers.GlobalAveragePooling1D()(y)], name="inner")
    chain = keras.Sequential([keras.Input((STEPS, 2)), memory(), layers.Dense(3)], name="chain")
    a, b = keras.Input((STEPS, 3), name="a"), keras.Input((STEPS, 3), name="b")
    (s, p), (t, q) = inner(a), inner(b)
    out = layers.Concatenate()([layers.LSTM(2)(chain(s)), p, q])
    save("nested", [a, b], [out, chain(t)], sequences(), sequences())
    save("nested_as_output", [a, b], [inner(b)[1], chain(inner(a)[0])], sequences(), sequences())

    named = {"left": keras.Input((3,), name="left"), "right": keras.Input((3,), name="right")}
    total = layers.Add()([named["left"], named["right"]])
    outputs = {"total": total, "wide": layers.Concatenate()([named["right"], total])}
    model = keras.Model(named, outputs, name="dicts")
    data = {"left": sequences()[:, 1], "right": sequences()[:, 4]}
    result = model.predict(data, verbose=0)
    arrays[f"{GENERATION}/dicts/config"] = np.array(json.dumps(model.get_config()))
    for index, name in enumerate(("left", "right")):
        arrays[f"{GENERATION}/dicts/x{index}"] = data[name]
    for index, name in enumerate(("total", "wide")):
        arrays[f"{GENERATION}/dicts/y{index}"] = result[name]


def explicit_mask():
    x, m = keras.Input((STEPS, 3), name="x"), keras.Input((STEPS,), dtype="bool", name="m")
    save("explicit_mask", [x, m], memory()(memory()(x, mask=m)), sequences(), random.random((4, STEPS)) < 0.6)


if __name__ == "__main__":
    single_layers()
    merges()
    masks()
    graphs()
    if GENERATION == "keras3":
        explicit_mask()
    kept = {}
    if PATH.exists():
        with np.load(PATH) as old:
            kept = {key: old[key] for key in old.files if not key.startswith(f"{GENERATION}/")}
    np.savez_compressed(PATH, **kept, **arrays)
    print(len(arrays), "arrays,", PATH.stat().st_size, "bytes")
