"""Models and weights in the files of Keras: ``.keras`` archives and HDF5, of Keras 3 and Keras 2."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numbalstm import checks
from numbalstm.io import keras_config, keras_weights
from numbalstm.io.errors import ModelFileError
from numbalstm.io.hdf5 import Hdf5File
from numbalstm.io.hdf5_format import SIGNATURE as HDF5_SIGNATURE
from numbalstm.io.keras_zip import KerasArchive
from numbalstm.layers import deserialize
from numbalstm.layers.lstm_weights import LSTMWeights
from numbalstm.models import Model, Sequential
from numbalstm.parameters import check_narrow

CONFIG_NAME = "config.json"
METADATA_NAME = "metadata.json"
WEIGHTS_NAME = "model.weights.h5"

_ZIP_SIGNATURE = b"PK\x03\x04"


def load_model(path: str | os.PathLike, *, weights_dtype: str | None = None, compute_dtype: str | None = None) -> Any:
    """Load a model trained in Keras.

    Parameters
    ----------
    path : str or path
        A ``.keras`` archive, or an HDF5 file of a whole model (``.h5``) of Keras 2 or Keras 3.  The content decides
        between the two, not the name.
    weights_dtype : {"bfloat16", "int8"}, optional
        Store the weights of all LSTM layers narrower, for faster and less exact inference: see `LSTM.weights_dtype`.
    compute_dtype : {"bfloat16"}, optional
        Let all LSTM layers multiply in bfloat16: see `LSTM.compute_dtype`.

    Returns
    -------
    Sequential or Model
        With the trained weights.  Optimizer, loss and metrics in the file are not read.

    Raises
    ------
    ModelFileError
        When the file is damaged, holds weights only, or describes what numbalstm does not support: every such layer is
        named with its place before anything is built.
    FileNotFoundError, PermissionError
        When the file cannot be opened.
    ValueError
        When `weights_dtype` or `compute_dtype` is unknown, or the model does not compute in float32.

    Notes
    -----
    The file is taken to be hostile: nothing in it is run, imported by name or unpickled, so Lambda layers and custom
    objects are refused; sizes are compared with the file before memory is taken.  NaN and infinite weights are loaded
    as they are.
    """
    check_narrow("load_model", weights_dtype, compute_dtype)
    model = _load_model(Path(path))
    if (weights_dtype, compute_dtype) != (None, None):
        for layer in _lstms_of(model):
            layer.set_narrow(weights_dtype, compute_dtype)
    return model


def _lstms_of(layer: Any) -> Iterator[LSTMWeights]:
    """Yield the LSTM layers and cells inside a layer or model."""
    if isinstance(layer, LSTMWeights):
        yield layer
    for inner in layer.sublayers:
        yield from _lstms_of(inner)


def _load_model(path: Path) -> Any:
    if _kind(path) == "hdf5":
        with Hdf5File(path, str(path)) as file:
            text = file.text("", "model_config")
            if text is None:
                raise ModelFileError(f"{path}: holds no model, only weights: build the model, then load_weights().")
            where = f"{path}: model_config"
            # Keras wrote no version before 2.
            model = _build(keras_config.parse(text, where), where, file.text("", "keras_version") or "1")
            keras_weights.load(model, file, "model_weights")
        return model
    with KerasArchive(path) as archive:
        where = f"{path}: {CONFIG_NAME}"
        config = keras_config.parse(archive.read(CONFIG_NAME, keras_config.MAX_CONFIG_BYTES), where)
        metadata = archive.read(METADATA_NAME, keras_config.MAX_CONFIG_BYTES)
        version = keras_config.parse(metadata, f"{path}: {METADATA_NAME}").get("keras_version")
        model = _build(config, where, version)
        _load_archived_weights(model, archive)
    return model


def load_weights(model: Any, path: str | os.PathLike) -> None:
    """Give a model the weights in a Keras file.

    Parameters
    ----------
    model : Sequential or Model
        Built, of the same structure as the model that was saved; the layers' names may differ.
    path : str or path
        ``.weights.h5`` of Keras 3 or Keras 2, weights in Keras 2's older HDF5 layout, or the file of a whole model.

    Raises
    ------
    ModelFileError
        When the file is damaged or its arrays do not fit the model; the model is unchanged then.
    TypeError
        When `model` is no model.
    ValueError
        When the model is not built.
    FileNotFoundError, PermissionError
        When the file cannot be opened.
    """
    if not isinstance(model, (Model, Sequential)):
        raise TypeError(f"load_weights: model must be a Sequential or Model, got {checks.describe(model)}.")
    if not model.built:
        raise ValueError(f"{model.place}: is not built, so its weights have no shapes yet. Build it or call it first.")
    path = Path(path)
    if _kind(path) == "zip":
        with KerasArchive(path) as archive:
            _load_archived_weights(model, archive)
        return
    with Hdf5File(path, str(path)) as file:
        keras_weights.load(model, file, "model_weights" if file.has("model_weights") else "")


def _kind(path: Path) -> str:
    """Return "zip" or "hdf5" by the file's first bytes."""
    if path.is_dir():
        raise ModelFileError(f"{path}: is a folder; TensorFlow's SavedModel is not read. Save as .keras or .h5.")
    with path.open("rb") as file:
        head = file.read(len(HDF5_SIGNATURE))
    if head.startswith(_ZIP_SIGNATURE):
        return "zip"
    if head == HDF5_SIGNATURE:
        return "hdf5"
    raise ModelFileError(f"{path}: {'is neither a .keras archive nor an HDF5 file' if head else 'is empty'}.")


def _build(config: dict[str, Any], where: str, version: Any) -> Any:
    """Make the model that a checked description describes; no weight takes memory yet."""
    keras_config.check_model(config, where)
    if str(version or "").partition(".")[0] in ("1", "2"):
        config = keras_config.mark_keras2(config)
    try:
        return deserialize(config)
    except Exception as error:  # a forged description can fail anywhere in the constructors
        raise ModelFileError(f"{where}: cannot be built: {error}") from error


def _load_archived_weights(model: Any, archive: KerasArchive) -> None:
    sharded = "model.weights.json" in archive
    if WEIGHTS_NAME not in archive and sharded:
        raise ModelFileError(f"{archive.path}: its weights are split into shards, which are not read.")
    with Hdf5File(archive.read(WEIGHTS_NAME), f"{archive.path}: {WEIGHTS_NAME}") as file:
        keras_weights.load(model, file)
