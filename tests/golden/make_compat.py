"""Make compat.npz: wrappers and cells of Keras 2 and of TensorFlow 1 with random weights, masked inputs and outputs.

Run in an environment with tf_keras:

    python tests/golden/make_compat.py

Made with tf_keras 2.21.0 on TensorFlow 2.21, CPU.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src.layers.rnn import lstm_v1

L = tf_keras.layers
random = np.random.default_rng(3)
arrays = {"x": random.normal(size=(3, 6, 4)).astype("float32"), "mask": random.random((3, 6)) > 0.4}


def save(name, layer, **arguments):
    layer.build(arrays["x"].shape)
    layer.set_weights([random.normal(size=weight.shape) * 0.5 for weight in layer.get_weights()])
    outputs = tf.nest.flatten(layer(arrays["x"], **arguments))
    for kind, values in (("w", layer.get_weights()), ("y", outputs)):
        arrays.update((f"{name}/{kind}{number}", np.asarray(value)) for number, value in enumerate(values))


masked = {"mask": arrays["mask"]}
backwards = L.LSTM(3, go_backwards=True, return_sequences=True, return_state=True)
save("bidirectional", L.Bidirectional(backwards, merge_mode="ave"), **masked)
save("bidirectional_v1", L.Bidirectional(lstm_v1.LSTM(3, return_sequences=True), merge_mode=None), **masked)
cells = [L.LSTMCell(3, recurrent_activation="hard_sigmoid"), lstm_v1.LSTMCell(2)]
save("cells", L.RNN(cells, return_sequences=True, return_state=True, go_backwards=True), **masked)
save("time_major", L.RNN(lstm_v1.LSTMCell(3), time_major=True, return_sequences=True))
np.savez_compressed(Path(__file__).with_name("compat.npz"), **arrays)
