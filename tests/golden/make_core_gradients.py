"""Make core_gradients.npz: gradients of the models in core_layers.npz, in float64, by the real Keras.

Run twice, in an environment with TensorFlow, Keras 3 and tf_keras:

    python tests/golden/make_core_gradients.py keras3 && python tests/golden/make_core_gradients.py keras2

Each run replaces the cases of its generation.  Made with Keras 3.15.1 and tf_keras 2.21.0 on TensorFlow 2.21, CPU.
For each model: cotangents ``g0``, ... of its outputs, gradients ``dx0``, ... of its float inputs, ``dw0``, ... of its
trainable weights.  Models with batch normalisation stand there once more with ``training`` behind their name: there
``y0``, ... are the outputs and ``m0``, ... all weights after the call too.  Dropout rates are set to 0.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
import numpy as np
import tensorflow as tf

GENERATION = sys.argv[1]
if GENERATION == "keras3":
    import keras
else:
    import tf_keras as keras
FOLDER = Path(__file__).parent
PATH = FOLDER / "core_gradients.npz"

random = np.random.default_rng(20261)
arrays: dict[str, np.ndarray] = {}


def flat(structure):
    return list(structure.values()) if isinstance(structure, dict) else tf.nest.flatten(structure)


def record(name, data, training=False):
    """Differentiate one model for random cotangents."""
    text = str(data[f"{GENERATION}/{name}/config"]).replace('"float32"', '"float64"')
    config = json.loads(text.replace('"rate": 0.3', '"rate": 0.0'))
    model = keras.Model.from_config(config)

    def given(letter):
        keys = [f"{GENERATION}/{name}/{letter}{index}" for index in range(30)]
        return [
            data[key].astype("float64") if data[key].dtype.kind == "f" else data[key] for key in keys if key in data
        ]

    model.set_weights(given("w"))
    inputs = [tf.constant(array) for array in given("x")]
    with tf.GradientTape() as tape:
        floats = [x for x in inputs if x.dtype.is_floating]
        tape.watch(floats)
        if isinstance(model.input, dict):
            argument = dict(zip(model.input, inputs, strict=True))
        else:
            argument = inputs if len(inputs) > 1 else inputs[0]
        outputs = flat(model(argument, training=training))
        cotangents = [random.standard_normal(y.shape) for y in outputs]
        loss = sum(tf.reduce_sum(y * g) for y, g in zip(outputs, cotangents, strict=True))
    weights = [weight.value if GENERATION == "keras3" else weight for weight in model.trainable_weights]
    dx, dw = tape.gradient(loss, [floats, weights], unconnected_gradients="zero")
    found = {"g": cotangents, "dx": dx, "dw": [tf.convert_to_tensor(gradient) for gradient in dw]}
    if training:
        found |= {"y": outputs, "m": model.get_weights()}
    prefix = f"{GENERATION}/{name}{'/training' if training else ''}"
    for letter, values in found.items():
        for index, value in enumerate(values):
            arrays[f"{prefix}/{letter}{index}"] = np.asarray(value)


if __name__ == "__main__":
    with np.load(FOLDER / "core_layers.npz") as file:
        data = dict(file)
    names = [key.split("/")[1] for key in data if key.startswith(f"{GENERATION}/") and key.endswith("/config")]
    for name in names:
        if name.endswith("_float32"):
            continue
        record(name, data)
        if name.startswith("batchnorm") or (name == "mask_through" and GENERATION == "keras3"):
            record(name, data, training=True)
    kept = {}
    if PATH.exists():
        with np.load(PATH) as old:
            kept = {key: old[key] for key in old.files if not key.startswith(f"{GENERATION}/")}
    np.savez_compressed(PATH, **kept, **arrays)
    print(len(arrays), "arrays,", PATH.stat().st_size, "bytes")
