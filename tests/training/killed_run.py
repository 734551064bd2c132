"""Kill a training at random moments, resume it, and see that nothing is lost.

    python tests/training/killed_run.py --kills 500

A child process trains and saves after every batch; it is killed with SIGKILL at a random moment, then a new child goes
on from the file.  After each kill the file has to be whole and not older than before; when the training is done, its
last file has to be that of a training which was never killed, byte for byte.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import numbalstm as nl
from numbalstm.callbacks import EarlyStopping, ModelCheckpoint, ReduceLROnPlateau
from numbalstm.models import checkpoints

EPOCHS, SAVES = 4, 40


def train(path):
    """Train to the end, from the file if there is one."""
    random = np.random.default_rng(0)
    x = random.normal(size=(48, 5, 3)).astype("float32")
    values = [random.normal(size=shape) * 0.5 for shape in ((3, 16), (4, 16), (16,), (4, 1), (1,))]
    layers = [nl.Input((None, 3)), nl.LSTM(4, dropout=0.2, seed=1, name="memory"), nl.Dense(1, name="out")]
    model = nl.Sequential(layers)
    model.set_weights(values)
    model.compile(nl.optimizers.Adam(0.1), "mse")
    watched = [EarlyStopping("loss", patience=9, restore_best_weights=True), ReduceLROnPlateau("loss", patience=1)]
    model.fit(
        x, x.sum(axis=(1, 2)), batch_size=5, epochs=EPOCHS, seed=2, verbose=0,
        callbacks=[*watched, ModelCheckpoint(path, save_freq=1)], resume=path if path.exists() else None,
    )  # fmt: skip


def child(path):
    """Start a training in a process of its own, which has everything compiled already."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            train(path)
            code = 0
        finally:
            os._exit(code)
    return process


def position(path):
    """Return how many batches the file has seen; it must be whole."""
    if not path.exists():
        return 0
    run = checkpoints.read(path)["run"]
    return run["epoch"] * SAVES // EPOCHS + run["batch"]


def killed(path, seconds):
    """Train, kill after some time; return whether it was killed before its end."""
    process = child(path)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("the training failed")
    return os.WIFSIGNALED(status)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    moments = random.Random(options.seed)
    nl.set_threads(1)
    train(folder / "whole")  # compiles
    (folder / "whole").unlink()
    started = time.monotonic()
    train(folder / "whole")
    length = time.monotonic() - started
    whole, path = (folder / "whole").read_bytes(), folder / "killed"
    kills = runs = seen = 0
    while kills < options.kills or path.exists():
        if kills < options.kills and killed(path, moments.uniform(0.0, 0.4 * length)):
            kills += 1
            assert position(path) >= seen, "the file went back"
            seen = position(path)
            continue
        os.waitpid(child(path), 0)
        assert path.read_bytes() == whole, "the resumed training differs"
        path.unlink()
        seen, runs = 0, runs + 1
    print(f"{runs} trainings, killed {kills} same")


if __name__ == "__main__":
    main()
