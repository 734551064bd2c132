"""Make training.npz: small models that the real Keras trained, in float64, with everything needed to train them again.

    KERAS_BACKEND=tensorflow python tests/golden/make_training.py

Made with Keras 3.15.1 on TensorFlow 2.21, CPU.  No shuffling and no dropout: same data, same weights, same batches.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import numpy as np
from keras import layers

PATH = Path(__file__).with_name("training.npz")
SAMPLES, STEPS, FEATURES, CLASSES = 37, 6, 3, 4
BATCH, EPOCHS = 8, 4  # 5 batches an epoch, the last of 5 samples: 20 updates

keras.config.set_floatx("float64")
random = np.random.default_rng(1997)
arrays: dict[str, np.ndarray] = {}


def classifier():
    x = keras.Input((STEPS, FEATURES))
    return keras.Model(x, layers.Dense(CLASSES, activation="softmax")(layers.LSTM(5)(x)))


def sequences():
    return random.standard_normal((SAMPLES, STEPS, FEATURES))


def labels(*shape):
    return random.integers(0, CLASSES, (SAMPLES, *shape))


def save(name, model, x, y, compiled, sample_weight=None, validation=None, batch_size=BATCH, **fitted):
    """Train a model from random weights and keep all of it."""
    model.set_weights([np.abs(w) + 0.3 if "variance" in v.path else w for v, w in zip(
        model.weights, [random.standard_normal(v.shape) * 0.4 for v in model.weights], strict=True)])  # fmt: skip
    case = {"config": model.get_config(), "class": type(model).__name__, "compile": compiled, "fit": fitted}
    case = json.loads(json.dumps(case))  # Keras changes what it is given
    for kind, group in (("w", model.get_weights()), ("x", x), ("y", y), ("s", sample_weight)):
        for index, array in enumerate(group if isinstance(group, list) else [group]):
            if array is not None:
                arrays[f"{name}/{kind}{index}"] = np.asarray(array)
    for index, array in enumerate(validation or ()):
        arrays[f"{name}/v{index}"] = array
    model.compile(**compiled)
    fitted = dict(fitted)
    if "class_weight" in fitted:
        fitted["class_weight"] = {int(key): value for key, value in fitted["class_weight"].items()}
    history = model.fit(x, y, sample_weight=sample_weight, validation_data=validation, batch_size=batch_size,
                        epochs=EPOCHS, shuffle=False, verbose=0, **fitted)  # fmt: skip
    case["history"] = {key: list(map(float, values)) for key, values in history.history.items()}
    case["batch_size"] = batch_size
    for index, array in enumerate(model.get_weights()):
        arrays[f"{name}/after{index}"] = array
    arrays[f"{name}/case"] = np.array(json.dumps(case))
    print(name, case["history"])


def optimizer(kind, **config):
    return {"class_name": kind, "config": config}


def decay(kind, **config):
    return {"module": "keras.optimizers.schedules", "class_name": kind, "config": config, "registered_name": None}


# Keras on TensorFlow rounds Adam's betas to float32 in float64 models; these lose nothing.
BETAS = {"beta_1": 0.875, "beta_2": 1 - 2**-10}
SPARSE = "sparse_categorical_crossentropy"
OPTIMIZERS = {
    "sgd": optimizer("SGD", learning_rate=0.3),
    "sgd_momentum": optimizer("SGD", learning_rate=0.1, momentum=0.8, weight_decay=0.004),
    "sgd_nesterov": optimizer("SGD", learning_rate=0.1, momentum=0.8, nesterov=True, clipvalue=0.01),
    "sgd_schedule": optimizer("SGD", learning_rate=decay(
        "ExponentialDecay", initial_learning_rate=0.5, decay_steps=4, decay_rate=0.7, staircase=True), clipnorm=0.05),
    "rmsprop": optimizer("RMSprop", learning_rate=0.01),
    "rmsprop_centered": optimizer("RMSprop", learning_rate=0.01, momentum=0.5, centered=True, rho=0.8),
    "adam": optimizer("Adam", learning_rate=0.02, global_clipnorm=0.1, **BETAS),
    "adam_amsgrad": optimizer("Adam", learning_rate=0.02, amsgrad=True, **BETAS),
    "adamw": optimizer("AdamW", learning_rate=0.02, weight_decay=0.05, **BETAS),
    "adagrad": optimizer("Adagrad", learning_rate=0.1),
    "nadam": optimizer("Nadam", learning_rate=0.02),
}  # fmt: skip
ADAM = optimizer("Adam", learning_rate=0.02, **BETAS)


def optimizers():
    for name, config in OPTIMIZERS.items():
        save(name, classifier(), sequences(), labels(),
             {"optimizer": config, "loss": SPARSE, "metrics": ["accuracy"]})  # fmt: skip


def weights():
    compiled = {"optimizer": ADAM, "loss": SPARSE, "metrics": ["accuracy"], "weighted_metrics": ["accuracy", SPARSE]}
    save("class_weight", classifier(), sequences(), labels(), compiled, class_weight={"0": 2.0, "2": 0.25, "3": 3.0})
    save("sample_weight", classifier(), sequences(), labels(), compiled, sample_weight=random.random(SAMPLES) * 3)
    one_hot = np.eye(CLASSES)[labels()]
    compiled = {**compiled, "loss": "categorical_crossentropy", "weighted_metrics": ["mae", "accuracy"]}
    save("class_weight_one_hot", classifier(), sequences(), one_hot, compiled, class_weight={"1": 4.0})


def masked():
    x = sequences()
    for row, length in enumerate(random.integers(1, STEPS + 1, SAMPLES)):
        x[row, length:] = 0.0
    x[3, 1] = 0.0
    i = keras.Input((STEPS, FEATURES))
    model = keras.Model(
        i, layers.Dense(CLASSES, activation="softmax")(layers.LSTM(4, return_sequences=True)(layers.Masking()(i)))
    )
    compiled = {"optimizer": ADAM, "loss": SPARSE, "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
    save("mask", model, x, labels(STEPS), compiled)
    i = keras.Input((STEPS,), dtype="int32")
    y = layers.LSTM(4, return_sequences=True)(layers.Embedding(9, 3, mask_zero=True)(i))
    model = keras.Model(i, layers.Dense(1)(layers.Bidirectional(layers.LSTM(3, return_sequences=True))(y)))
    ids = random.integers(0, 9, (SAMPLES, STEPS)).astype("int32")
    ids[:, 0] = 3
    target = random.standard_normal((SAMPLES, STEPS, 1))
    # Not Adam: on TensorFlow its moments of embeddings that are not in a batch stay, instead of decaying.
    compiled = {
        "optimizer": optimizer("SGD", learning_rate=0.1),
        "loss": "mse",
        "metrics": ["mae"],
        "weighted_metrics": ["mse"],
    }
    save("mask_embedding", model, ids, target, compiled, sample_weight=random.random((SAMPLES, STEPS)))


def validated():
    compiled = {"optimizer": ADAM, "loss": SPARSE, "metrics": ["accuracy"], "weighted_metrics": ["accuracy"]}
    save("validation_split", classifier(), sequences(), labels(), compiled, validation_split=0.3, validation_freq=2)
    data = (random.standard_normal((11, STEPS, FEATURES)), random.integers(0, CLASSES, 11), random.random(11))
    save("validation_data", classifier(), sequences(), labels(), compiled, validation=data, validation_batch_size=4)


def penalised():
    i = keras.Input((STEPS, FEATURES))
    l1, l2 = keras.regularizers.L1, keras.regularizers.L2
    lstm = layers.LSTM(
        5, kernel_regularizer=l2(0.125), recurrent_regularizer=l1(0.0625),
        bias_regularizer=keras.regularizers.L1L2(0.03125, 0.25), activity_regularizer=l2(0.5),
        kernel_constraint="max_norm", bias_constraint="non_neg", return_sequences=True,
    )  # fmt: skip
    hidden = layers.BatchNormalization(momentum=0.75)(lstm(i))
    frozen = layers.Dense(4, activation="tanh", kernel_regularizer=l2(0.5), trainable=False)(hidden)
    out = layers.Dense(1, kernel_constraint="unit_norm", activity_regularizer=l1(0.25))(
        layers.GlobalAveragePooling1D()(layers.LayerNormalization()(frozen)))  # fmt: skip
    save("penalties", keras.Model(i, out), sequences(), random.standard_normal(SAMPLES),
         {"optimizer": optimizer("SGD", learning_rate=0.1), "loss": "huber", "metrics": ["mae"]},
         validation_split=0.25)  # fmt: skip


def several():
    a, b = keras.Input((STEPS, FEATURES), name="a"), keras.Input((2,), name="b")
    h = layers.Concatenate(name="joined")([layers.LSTM(4, name="memory")(a), b])
    outputs = [layers.Dense(1, name="amount")(h), layers.Dense(CLASSES, activation="softmax", name="kind")(h),
               layers.Dense(1, activation="sigmoid", name="yes")(h)]  # fmt: skip
    y = [random.standard_normal((SAMPLES, 1)), labels(), random.integers(0, 2, (SAMPLES, 1))]
    compiled = {
        "optimizer": ADAM,
        "loss": ["mae", SPARSE, "binary_crossentropy"],
        "loss_weights": [0.5, 2.0, 1.0],
        "metrics": [["mse", "mae"], ["accuracy"], None],
        "weighted_metrics": [None, ["accuracy"], ["mse"]],
    }
    # Batches of one size: of others, Keras on TensorFlow takes a plain mean of the outputs' losses.
    x = [sequences()[:35], random.standard_normal((35, 2))]
    save("several", keras.Model([a, b], outputs), x, [array[:35] for array in y], compiled,
         sample_weight=[random.random(35) for _ in range(3)], batch_size=7)  # fmt: skip


def stateful():
    chain = keras.Sequential([
        keras.Input((STEPS, FEATURES), batch_size=6), layers.LSTM(4, stateful=True, return_sequences=True),
        layers.Dense(2),
    ])  # fmt: skip
    x, y = random.standard_normal((30, STEPS, FEATURES)), random.standard_normal((30, STEPS, 2))
    save("stateful", chain, x, y, {"optimizer": ADAM, "loss": "mse"}, batch_size=6)


if __name__ == "__main__":
    optimizers()
    weights()
    masked()
    validated()
    penalised()
    several()
    stateful()
    np.savez_compressed(PATH, **arrays)
    print(len(arrays), "arrays,", PATH.stat().st_size, "bytes")
