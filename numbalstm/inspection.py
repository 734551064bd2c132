"""What is in a model file, for `numbalstm info`: also when parts of it are not supported."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numbalstm.io import ModelFileError, load_model
from numbalstm.io import keras_config as configs
from numbalstm.io.hdf5 import Hdf5File
from numbalstm.io.keras import CONFIG_NAME
from numbalstm.io.keras_zip import KerasArchive


class LayerFacts(NamedTuple):
    """One line of the table; empty where the file alone does not tell."""

    name: str
    type: str
    output: str
    parameters: int | None
    dtype: str


class Inspection(NamedTuple):
    """What a model file holds.

    Attributes
    ----------
    title : str
        Type and name of the model.
    layers : list of LayerFacts
    unsupported : str
        Why the model cannot be loaded, every reason on a line of its own; empty when it can.
    """

    title: str
    layers: list[LayerFacts]
    unsupported: str


def inspect(path: Path) -> Inspection:
    """Describe a model file.

    Raises
    ------
    ModelFileError
        When the file is damaged, or holds no model.
    OSError
        When it cannot be opened.
    """
    try:
        model = load_model(path)
    except ModelFileError as error:
        try:
            config, where = _description(path)
        except (ModelFileError, OSError):
            raise error from None
        try:
            configs.check_model(config, where)
        except ModelFileError as refusal:
            return Inspection(_title(config), _described_layers(config), str(refusal))
        raise
    return Inspection(f"{type(model).__name__} {model.name}", [_facts(layer) for layer in model.layers], "")


def _facts(layer: Any) -> LayerFacts:
    outputs = layer.nodes[-1].outputs if layer.nodes else []
    shapes = ", ".join(str(tensor.shape) for tensor in outputs)
    return LayerFacts(layer.name, type(layer).__name__, shapes, layer.count_params(), layer.policy.name)


def _description(path: Path) -> tuple[dict[str, Any], str]:
    """Return the description of the model in a file, and the place where it stands."""
    if zipfile.is_zipfile(path):
        where = f"{path}: {CONFIG_NAME}"
        with KerasArchive(path) as archive:
            return configs.parse(archive.read(CONFIG_NAME, configs.MAX_CONFIG_BYTES), where), where
    where = f"{path}: model_config"
    with Hdf5File(path, str(path)) as file:
        return configs.parse(file.text("", "model_config") or "", where), where


def _title(config: Mapping[str, Any]) -> str:
    inner = config.get("config")
    return f"{config.get('class_name')} {inner.get('name', '') if isinstance(inner, Mapping) else ''}".strip()


def _described_layers(config: Mapping[str, Any]) -> list[LayerFacts]:
    """Return the layers that a description names; a forged one may have any form."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, Mapping) else inner
    found = []
    for layer in layers if isinstance(layers, list) else []:
        inner = layer.get("config") if isinstance(layer, Mapping) else None
        name = inner.get("name", "") if isinstance(inner, Mapping) else ""
        kind = layer.get("class_name", "") if isinstance(layer, Mapping) else ""
        found.append(LayerFacts(str(name), str(kind), "", None, ""))
    return found
