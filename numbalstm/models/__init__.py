"""Models: layers one after the other, or joined in a graph."""

from numbalstm.models.model import Model
from numbalstm.models.sequential import Sequential

__all__ = ["Model", "Sequential"]
