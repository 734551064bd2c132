"""LSTM layers for people who work in NumPy: the semantics of Keras on explicit-SIMD Numba kernels."""

from importlib import import_module

__version__ = "0.1.0"

# Public name: module that defines it.  Nothing is imported before a name is used.
_HOMES = {
    "LSTM": "layers",
    "LSTMCell": "layers",
    "RNN": "layers",
    "StackedLSTM": "layers",
    "StackedRNNCells": "layers",
    "Bidirectional": "layers",
    "TimeDistributed": "layers",
    "Activation": "layers",
    "Add": "layers",
    "Average": "layers",
    "BatchNormalization": "layers",
    "Concatenate": "layers",
    "Dense": "layers",
    "Dropout": "layers",
    "Embedding": "layers",
    "Flatten": "layers",
    "GlobalAveragePooling1D": "layers",
    "GlobalMaxPooling1D": "layers",
    "Input": "layers",
    "InputLayer": "layers",
    "Layer": "layers",
    "LayerGradients": "layers.gradients",
    "LayerNormalization": "layers",
    "Masking": "layers",
    "Multiply": "layers",
    "RepeatVector": "layers",
    "Reshape": "layers",
    "SpatialDropout1D": "layers",
    "Model": "models",
    "Sequential": "models",
    "Stream": "streaming",
    "StreamPool": "streaming",
    "load_model": "io.keras",
    "load_weights": "io.keras",
    "ModelFileError": "io.errors",
    "CheckpointError": "models.checkpoints",
    "NonFiniteError": "models.nonfinite",
    "set_threads": "settings",
    "get_threads": "settings",
    "explain_gpu": "backends.cuda.explaining",
    "set_gpu": "backends.cuda.mode",
    "get_gpu": "backends.cuda.mode",
    "warmup": "startup",
}
_MODULES = {
    "activations", "callbacks", "compat", "constraints", "functional", "initializers", "io", "layers", "losses",
    "metrics", "models", "optimizers", "plot", "regularizers",
}  # fmt: skip

# Resolved like the others, but not part of `import *`: they need an extra.
_WITH_EXTRAS = {"LSTMClassifier": "estimators", "LSTMRegressor": "estimators"}

__all__ = sorted({"__version__", *_HOMES, *_MODULES})


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"numbalstm.{name}")
    home = _HOMES.get(name) or _WITH_EXTRAS.get(name)
    if home is None:
        raise AttributeError(f"module 'numbalstm' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"numbalstm.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_WITH_EXTRAS})
