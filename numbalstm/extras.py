"""Optional packages: imported where they are used, and named with their extra when they are missing."""

from importlib import import_module
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Parameters
    ----------
    module : str
        Name of the module, for example ``"matplotlib"``.
    extra : str
        The extra of numbalstm that installs it: ``"cli"``, ``"plot"`` or ``"sklearn"``.

    Returns
    -------
    ModuleType
        The imported module (the submodule itself for a dotted name).

    Raises
    ------
    ImportError
        When the package is not installed; the message names the extra.  A package that is installed but fails to
        import raises its own error.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f'{package} is needed for this but is not installed: pip install "numbalstm[{extra}]".', name=package
        ) from error
