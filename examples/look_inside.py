"""Draw the pictures of docs/how-to/look-inside.md: the gates and states of the bundled model while it reads a history.

python examples/look_inside.py docs/images
"""

import sys
from pathlib import Path

import numpy as np

import numbalstm as nl
from numbalstm import demo


def main(folder: Path) -> None:
    """Write gates.png and states.png."""
    dates, values = demo.load_series()
    windows = demo.make_windows(values, len(values) - demo.HORIZON, len(values))
    with demo.data_file(demo.MODEL) as path:
        model = nl.load_model(path)
    trace = model.get_layer("memory").trace(windows.inputs)
    weeks = dates[windows.start[-1] + np.arange(-demo.HISTORY, 0)]
    peak = trace.c[0, -demo.HORIZON :].argmax(axis=0)  # when in the year each unit's cell state is greatest
    for name, draw in (("gates", nl.plot.gates), ("states", nl.plot.states)):
        draw(trace, sample=-1, units=np.argsort(peak), times=weeks).savefig(folder / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
