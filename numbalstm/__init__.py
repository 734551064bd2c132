"""LSTM layers for people who work in NumPy: the semantics of Keras on explicit-SIMD Numba kernels."""

from importlib import import_module

__version__ = "0.1.0"

# Public name: module that defines it.  Nothing is imported before a name is used.
_HOMES = {
    "LSTM": "layers",
    "LSTMCell": "layers",
    "RNN": "layers",
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
    "set_threads": "settings",
    "get_threads": "settings",
    "warmup": "startup",
}
_MODULES = {"activations", "constraints", "functional", "initializers", "io", "layers", "models", "regularizers"}

__all__ = sorted({"__version__", *_HOMES, *_MODULES})


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"numbalstm.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'numbalstm' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"numbalstm.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
