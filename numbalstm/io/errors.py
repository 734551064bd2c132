"""The one exception type of everything that can be wrong with a model file."""


class ModelFileError(ValueError):
    """A model file is corrupt, hostile, of an unknown kind, or holds what numbalstm does not support.

    The message says the file, the place in it and what is wrong there.  Files that cannot be opened at all raise the
    operating system's own errors (`FileNotFoundError`, `PermissionError`).
    """
