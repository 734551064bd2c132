"""Model files in and out; readers parse, and never execute."""

from numbalstm.io.errors import ModelFileError
from numbalstm.io.keras import load_model, load_weights

__all__ = ["ModelFileError", "load_model", "load_weights"]
