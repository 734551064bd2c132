"""The activations of the ONNX operator LSTM: which have numbers of their own, and which are ours under other names."""

DEFAULTS: dict[str, tuple[float | None, ...]] = {
    "Affine": (None, None),
    "Elu": (1.0,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "ScaledTanh": (None, None),
    "ThresholdedRelu": (1.0,),
}
"""alpha, and beta where the function has one; None where ONNX has no default."""

FIXED = {"Relu": "relu", "Sigmoid": "sigmoid", "Softplus": "softplus", "Softsign": "softsign", "Tanh": "tanh"}
"""ONNX functions without numbers, and their names here."""

EQUAL = {
    ("Affine", 1.0, 0.0): "linear",
    ("Elu", 1.0, None): "elu",
    ("HardSigmoid", 0.2, 0.5): "hard_sigmoid_keras2",
    ("LeakyRelu", 0.2, None): "leaky_relu",
    ("ScaledTanh", 1.0, 1.0): "tanh",
}
"""ONNX functions that are one of ours at these numbers."""
