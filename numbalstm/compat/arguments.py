"""From the arguments of a function or constructor here to those of the layer it stands for."""

from collections.abc import Mapping
from typing import Any

from numbalstm import checks
from numbalstm.layers.base import Layer

NOT_OPTIONS = ("self", "__class__", "object", "layer_options")


def forwarded(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function got, its ``locals()`` at its first line, as arguments to hand on.

    Those in ``**layer_options`` come in line with the others; `self` and R's `object` are left out.
    """
    named = {name: value for name, value in arguments.items() if name not in NOT_OPTIONS}
    return {**named, **arguments.get("layer_options", {})}


class OfGeneration(Layer):
    """A layer class that follows one generation's rules, whatever its config says or leaves open.

    Attributes
    ----------
    OF : str
        The generation.
    """

    OF: str

    @classmethod
    def ruled(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of a constructor with the generation; ValueError when another one came."""
        options = forwarded(arguments)
        checks.one_of(cls.__name__, "generation", options.get("generation", cls.OF), (cls.OF,))
        return {**options, "generation": cls.OF}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Any:
        """Make a layer, and the layers inside it, from a config of its generation."""
        return super().from_config({"generation": cls.OF, **_stamped(config, cls.OF)})


def _stamped(value: Any, generation: str) -> Any:
    """Return a config in which the layers inside say their generation, which V1's own configs leave open."""
    if isinstance(value, list):
        return [_stamped(item, generation) for item in value]
    if not isinstance(value, Mapping):
        return value
    stamped = {key: _stamped(item, generation) for key, item in value.items()}
    if stamped.get("class_name") in ("LSTM", "LSTMCell", "RNN"):
        stamped["config"] = {"generation": generation, **stamped["config"]}
    return stamped
