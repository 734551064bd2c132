"""Initializers, regularizers and constraints from what a caller or a config gives, and back into a config.

Names are looked up in closed tables; nothing is imported because a file names it.
"""

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

from numbalstm import checks


class Configurable:
    """Base of small objects that are rebuilt from their constructor's arguments."""

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: Mapping) -> "Configurable":
        """Make an object from constructor arguments; ValueError when one of them is unknown."""
        return build(cls.__name__, cls, config)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def resolve(where: str, kind: str, identifier: Any, makers: Mapping[str, Callable]) -> Any:
    """Return the object that an identifier stands for.

    Parameters
    ----------
    where, kind : str
        Who asks and for what ("initializer"); both go into messages.
    identifier : str, class, callable, mapping or None
        A known name, a class (made without arguments), an object that is returned as it is, or the
        ``{"class_name", "config"}`` of Keras 2 or Keras 3.  None gives None.
    makers : mapping
        Known names and what makes the object.

    Raises
    ------
    ValueError
        When the name is unknown, a config holds an unknown setting, or the identifier is none of these.
    """
    if identifier is None:
        return None
    if isinstance(identifier, Mapping):
        name, config = class_and_config(where, kind, identifier)
        if name not in makers:
            raise checks.unknown(where, kind, name, _shown(makers))
        return build(where, makers[name], config)
    if isinstance(identifier, type):
        identifier = identifier()
    if callable(identifier):
        return identifier
    if not isinstance(identifier, str) or identifier not in makers:
        raise checks.unknown(where, kind, identifier, _shown(makers))
    return makers[identifier]()


def _shown(makers: Mapping[str, Callable]) -> list[str]:
    """Return the names for a message: the class names are the same ones in camel case."""
    return [name for name in makers if name.islower()]


def class_and_config(where: str, kind: str, identifier: Mapping) -> tuple[str, Any]:
    """Return ``class_name`` and ``config`` of a serialized object; ValueError for other dicts and custom objects."""
    name, config = identifier.get("class_name"), identifier.get("config", {})
    if not isinstance(name, str):
        raise ValueError(f'{where}: a {kind} given as a dict needs "class_name" and "config", got {list(identifier)}.')
    registered = identifier.get("registered_name")
    if isinstance(registered, str) and ">" in registered:
        raise ValueError(f"{where}: custom {kind} {registered!r} cannot be loaded; set it in Python instead.")
    return name, config


def build(where: str, maker: Callable, config: Any) -> Any:
    """Call `maker` with the settings in `config`; ValueError when it does not know one of them."""
    if not isinstance(config, Mapping):
        raise ValueError(f"{where}: the config of {maker.__name__} must be a dict, got {checks.describe(config)}.")
    known = signature(maker).parameters
    strange = [name for name in config if name not in known]
    if strange:
        raise ValueError(
            f"{where}: {maker.__name__} has no setting {strange[0]!r}. Known: {', '.join(known) or 'none'}."
        )
    return maker(**config)


def serialize(value: Any, module: str, config: dict | None = None) -> Any:
    """Return an object in the form that Keras 2 and Keras 3 write.

    Parameters
    ----------
    value : Configurable, callable or None
        A callable of the user's has no such form and stays itself; None stays None.
    module : str
        Keras module of the class, for example ``"keras.regularizers"``.
    config : dict, optional
        The config to write; None is ``value.get_config()``.
    """
    if not isinstance(value, Configurable):
        return value
    return {
        "module": module,
        "class_name": type(value).__name__,
        "config": value.get_config() if config is None else config,
        "registered_name": None,
    }
