"""Train the model that `numbalstm demo` runs, with the real Keras.

The file in the package was made with Keras 3.15.1 on TensorFlow 2.21 (CPU) by

    KERAS_BACKEND=tensorflow python examples/train_demo_model.py numbalstm/data/co2_forecast.keras

Only weeks before 1990 are learnt from; the demonstration forecasts the years from 1990 on.
"""

from __future__ import annotations

import sys

import keras
import numpy as np

from numbalstm import demo

UNITS = 32
EPOCHS = 60
BATCH = 64
NOISE = 0.05  # standard deviation, in units of the input, drawn anew for every batch: about 0.25 ppm


def main(path: str) -> None:
    keras.utils.set_random_seed(1958)
    dates, values = demo.load_series()
    first_unseen = int(np.searchsorted(dates, demo.FIRST_UNSEEN))
    learnt = demo.make_windows(values, 0, first_unseen)
    unseen = demo.make_windows(values, first_unseen, len(values))

    model = keras.Sequential(
        [
            keras.layers.Input((None, 1), name="history"),
            keras.layers.LSTM(UNITS, name="memory"),
            keras.layers.Dense(demo.HORIZON, name="next_year"),
        ],
        name="co2_forecast",
    )
    # The noise is a layer of a wrapper, so that the saved model is the three layers alone.
    history = keras.layers.Input((None, 1))
    trained = keras.Model(history, model(keras.layers.GaussianNoise(NOISE)(history)))
    steps = EPOCHS * -(-len(learnt.inputs) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(4e-3, steps)
    trained.compile(keras.optimizers.Adam(rate, clipnorm=1.0), "mse")
    trained.fit(learnt.inputs, learnt.targets, batch_size=BATCH, epochs=EPOCHS, verbose=2)

    for name, windows in (("learnt", learnt), ("unseen", unseen)):
        error = model.predict(windows.inputs, verbose=0) - windows.targets
        print(f"{name}: {len(error)} histories, error {demo.SCALE * np.sqrt(np.mean(error**2)):.3f} ppm (rms)")
    model.save(path)


if __name__ == "__main__":
    main(sys.argv[1])
