"""Figures, drawn without pyplot: no window opens, no global state changes (needs matplotlib: the extra `plot`)."""

from numbalstm.plot.traces import SATURATED, gates, states
from numbalstm.plot.training import history

__all__ = ["SATURATED", "gates", "history", "states"]
