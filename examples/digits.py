"""Read handwritten digits line by line with an LSTM.

    python examples/digits.py                      # trains for 40 epochs, prints the accuracy, writes digits.png
    python examples/digits.py --seeds 5            # five trainings
    python examples/digits.py --seeds 5 --keras    # each of them with Keras too, from the same weights (needs keras)

An image of 8 by 8 pixels is a sequence of 8 lines.  The first 1,400 images are learnt from, the other 397 tested on.
"""

import argparse
from pathlib import Path

import numpy as np

import numbalstm as nl

LEARNT = 1400
BATCH = 32


def load():
    """Return images (N, 8, 8) from 0 to 1, and labels."""
    with np.load(Path(__file__).parent / "data" / "digits.npz") as data:
        return data["images"].astype("float32") / 16, data["labels"].astype("int64")


def make_model(seed):
    """Return an untrained model; all its random numbers follow from the seed."""
    kernel, recurrent, out = np.random.default_rng(seed).integers(0, 2**31, 3)
    return nl.Sequential(
        [
            nl.Input((8, 8)),
            nl.LSTM(
                64,
                kernel_initializer=nl.initializers.GlorotUniform(seed=int(kernel)),
                recurrent_initializer=nl.initializers.Orthogonal(seed=int(recurrent)),
            ),
            nl.Dense(10, activation="softmax", kernel_initializer=nl.initializers.GlorotUniform(seed=int(out))),
        ]
    )


def train(seed, epochs, learnt=LEARNT, verbose="auto"):
    """Train one model; return it, its history and its accuracy on the images not learnt from."""
    x, y = load()
    model = make_model(seed)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        x[:learnt], y[:learnt], BATCH, epochs, verbose, seed=seed, validation_data=(x[LEARNT:], y[LEARNT:])
    )
    return model, history, history.history["val_accuracy"][-1]


def train_keras(seed, epochs):
    """Do the same with Keras, from the same first weights; return its accuracy."""
    import keras

    x, y = load()
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.LSTM(64), keras.layers.Dense(10, activation="softmax")])
    model.set_weights(make_model(seed).get_weights())
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x[:LEARNT], y[:LEARNT], BATCH, epochs, verbose=0)
    return model.evaluate(x[LEARNT:], y[LEARNT:], verbose=0)[1]


def draw(model, history):
    """Draw the training, and images with what the model read; mistakes in orange."""
    from matplotlib.figure import Figure

    x, y = load()
    x, y = x[LEARNT:], y[LEARNT:]
    said = model.predict(x).argmax(axis=1)
    wrong = np.flatnonzero(said != y)
    shown = np.sort(np.concatenate([wrong[:12], np.flatnonzero(said == y)[: 48 - len(wrong[:12])]]))
    figure = Figure(figsize=(11, 7.5), dpi=110, layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(3, 4))
    nl.plot.history(history, figure=above)
    axes = below.subplots(4, 12).ravel()
    for axis, row in zip(axes, shown, strict=False):
        right = said[row] == y[row]
        axis.imshow(x[row], cmap="gray_r")
        title, color = (said[row], "0.3") if right else (f"{said[row]}, is {y[row]}", "#d1570b")
        axis.set_title(title, color=color, fontsize=9)
    for axis in axes:
        axis.set_axis_off()
    below.suptitle(f"{len(wrong)} of {len(y)} digits that were not learnt from are read wrong", fontsize="large")
    return figure


def report(title, accuracies):
    found = zip(("numbalstm", "Keras"), accuracies, strict=False)
    print(f"{title}: " + ", ".join(f"{name} {100 * accuracy:.2f} %" for name, accuracy in found))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--learnt", type=int, default=LEARNT, help="images to learn from")
    parser.add_argument("--seeds", type=int, default=1, help="number of trainings")
    parser.add_argument("--keras", action="store_true", help="train with Keras too")
    parser.add_argument("--output", type=Path, default=Path("digits.png"))
    options = parser.parse_args(argv)
    rows = []
    for seed in range(options.seeds):
        model, history, accuracy = train(seed, options.epochs, options.learnt)
        rows.append([accuracy, train_keras(seed, options.epochs)] if options.keras else [accuracy])
        report(f"seed {seed}", rows[-1])
    if options.seeds > 1:
        report("mean", np.mean(rows, axis=0))
    draw(model, history).savefig(options.output)
    print(f"figure: {options.output}")
    return rows


if __name__ == "__main__":
    main()
