"""Train the forecast of `numbalstm demo`: two years of weekly CO2 in, the next year out.

    python examples/co2.py                         # trains for 60 epochs, prints the errors, writes co2.png
    python examples/co2.py --checkpoint co2.ckpt   # stop it, start it again: it goes on where it was

Only weeks before 1990 are learnt from; the errors are those of the years after.
"""

import argparse
from pathlib import Path

import numpy as np

import numbalstm as nl
from numbalstm import demo
from numbalstm.callbacks import ModelCheckpoint

BATCH = 64
NOISE = 0.05  # standard deviation, in units of the input, drawn anew for every batch: about 0.25 ppm


class Noisy:
    """Batches of windows in a random order, with noise on the histories; the same ones for the same seed."""

    def __init__(self, windows, seed):
        self.windows, self.random = windows, np.random.default_rng(seed)

    def __iter__(self):
        while True:
            order = self.random.permutation(len(self.windows.inputs))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                x = self.windows.inputs[rows]
                yield x + NOISE * self.random.standard_normal(x.shape, dtype=x.dtype), self.windows.targets[rows]


def split():
    """Return dates, values, the windows to learn from and those after."""
    dates, values = demo.load_series()
    first_unseen = int(np.searchsorted(dates, demo.FIRST_UNSEEN))
    learnt, unseen = demo.make_windows(values, 0, first_unseen), demo.make_windows(values, first_unseen, len(values))
    return dates, values, learnt, unseen


def train(epochs, units=32, every=1, checkpoint=None, verbose="auto"):
    """Train on every so many-th window; return the model and its history."""
    _, _, learnt, unseen = split()
    learnt, unseen = (demo.Windows(*(part[::every] for part in windows)) for windows in (learnt, unseen))
    model = nl.Sequential(
        [nl.Input((None, 1)), nl.LSTM(units, name="memory"), nl.Dense(demo.HORIZON, name="next_year")]
    )
    steps = -(-len(learnt.inputs) // BATCH)
    rate = nl.optimizers.CosineDecay(4e-3, epochs * steps)
    model.compile(nl.optimizers.Adam(rate, clipnorm=1.0), "mse")
    history = model.fit(
        iter(Noisy(learnt, seed=1958)), epochs=epochs, steps_per_epoch=steps, verbose=verbose,
        validation_data=(unseen.inputs, unseen.targets), validation_batch_size=256,
        callbacks=[] if checkpoint is None else [ModelCheckpoint(checkpoint)],
        resume=checkpoint if checkpoint is not None and Path(checkpoint).exists() else None,
    )  # fmt: skip
    return model, history


def draw(model, history):
    """Draw the training, and a forecast for each year."""
    from matplotlib.figure import Figure

    dates, values, _, unseen = split()
    figure = Figure(figsize=(12, 4), dpi=110, layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 2))
    axis = nl.plot.history(history, figure=left).axes[0]
    axis.set_yscale("log")
    axis = right.subplots()
    axis.plot(dates[unseen.start[0] :], values[unseen.start[0] :], color="0.25", lw=1, label="measured")
    rows = slice(None, None, demo.HORIZON)
    forecasts = model.predict(unseen.inputs[rows]) * demo.SCALE + unseen.last[rows]
    for number, (start, forecast) in enumerate(zip(unseen.start[rows], forecasts, strict=True)):
        weeks = dates[start + np.arange(demo.HORIZON)]
        label = None if number else "forecast a year at once"
        axis.plot(weeks, forecast, color="#d1570b", lw=2, alpha=0.85, label=label)
    axis.set_ylabel("CO₂, ppm")
    axis.set_title("Years that were not learnt from", loc="left", fontsize="medium")
    axis.legend(frameon=False)
    return figure


def errors(model):
    """Return the root mean square error in ppm of each method on the years after."""
    *_, unseen = split()
    methods = {"LSTM": model.predict(unseen.inputs, batch_size=256), **demo.naive_forecasts(unseen)}
    return {name: float(demo.SCALE * np.sqrt(np.mean((y - unseen.targets) ** 2))) for name, y in methods.items()}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--every", type=int, default=1, help="learn from every so many-th window")
    parser.add_argument("--checkpoint", type=Path, help="file to save each epoch to, and to go on from")
    parser.add_argument("--output", type=Path, default=Path("co2.png"))
    options = parser.parse_args(argv)
    model, history = train(options.epochs, options.units, options.every, options.checkpoint)
    found = errors(model)
    for name, error in found.items():
        print(f"{name:<28}{error:.2f} ppm (rms)")
    draw(model, history).savefig(options.output)
    print(f"figure: {options.output}")
    return found


if __name__ == "__main__":
    main()
