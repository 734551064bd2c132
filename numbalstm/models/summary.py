"""The table of a model's layers."""

import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any

from numbalstm.layers.base import Layer
from numbalstm.layers.symbolic import leaves

_MIN_WIDTH = 40


def print_summary(model: Any, line_length: int | None, print_fn: Callable[[str], Any] | None) -> None:
    """Print a model's layers, see `numbalstm.models.model.BaseModel.summary`."""
    branched = model.built and _is_branched(model)
    headings = ["Layer (type)", "Output Shape", "Param #"] + (["Connected to"] if branched else [])
    rows = [_row(model, layer, branched) for layer in model.layers]
    title = f'Model: "{model.name}"'
    totals = _totals(model)
    if print_fn is None and _print_rich(title, headings, rows, totals, line_length):
        return
    width = max(_MIN_WIDTH, line_length or shutil.get_terminal_size().columns)
    emit = print_fn or _print_line
    for line in [title, *_text_table(headings, rows, width), *totals]:
        emit(line)


def _row(model: Any, layer: Layer, branched: bool) -> list[str]:
    count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
    row = [f"{layer.name} ({type(layer).__name__})", _output_shape(layer), count]
    return [*row, _sources(model, layer)] if branched else row


def _output_shape(layer: Layer) -> str:
    if not layer.nodes:
        return "?"
    shapes = [str(tensor.shape) for tensor in layer.nodes[0].outputs]
    return shapes[0] if len(shapes) == 1 else f"[{', '.join(shapes)}]"


def _sources(model: Any, layer: Layer) -> str:
    """Return the outputs that feed a layer in this model, as ``name[call][output]``."""
    inside = {id(node) for node in model.graph.nodes}
    tensors = [tensor for node in layer.nodes if id(node) in inside for tensor in node.inputs]
    return ", ".join(
        f"{tensor.name}[{tensor.node.layer.nodes.index(tensor.node)}][{tensor.index}]" for tensor in tensors
    )


def _is_branched(model: Any) -> bool:
    """Return whether the model is more than a chain of layers."""
    nodes = model.graph.nodes
    return (
        len(model.inputs) > 1
        or len(nodes) != len(model.graph.layers)
        or any(len(n.inputs) > 1 for n in nodes)
        or any(count > 1 for count in _uses(nodes).values())
    )


def _uses(nodes: Sequence[Any]) -> dict[int, int]:
    uses: dict[int, int] = {}
    for tensor in leaves([node.inputs for node in nodes]):
        uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    return uses


def _totals(model: Any) -> list[str]:
    lines = []
    for title, weights in (
        ("Total params", model.weights),
        ("Trainable params", model.trainable_weights),
        ("Non-trainable params", model.non_trainable_weights),
    ):
        sizes = [(_size(weight.shape), weight.dtype.itemsize) for weight in weights]
        count, size = sum(count for count, _ in sizes), sum(count * item for count, item in sizes)
        lines.append(f" {title}: {count:,} ({_bytes(size)})")
    return lines


def _size(shape: Sequence[int]) -> int:
    size = 1
    for axis in shape:
        size *= axis
    return size


def _bytes(count: int) -> str:
    value, units = float(count), ["B", "KB", "MB", "GB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.2f} {units[0]}"


def _print_line(line: str) -> None:
    sys.stdout.write(line + "\n")


def _print_rich(
    title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], totals: Sequence[str], width: int | None
) -> bool:
    """Print with rich; return whether it is installed."""
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table
    except ImportError:
        return False
    console = Console(width=width, highlight=False)
    table = Table(title=escape(title), title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading == "Param #" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    for line in totals:
        console.print(escape(line))
    return True


def _text_table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the lines of a plain table; longer texts go on in the next line of their column."""
    widths = [max(len(row[column]) for row in [headings, *rows]) for column in range(len(headings))]
    while sum(widths) + 2 * (len(widths) - 1) > width:
        widths[widths.index(max(widths))] -= 1
    lines = ["_" * width, *_wrapped(headings, widths), "=" * width]
    for row in rows:
        lines += _wrapped(row, widths)
    return [*lines, "=" * width]


def _wrapped(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    pieces = [
        [cell[start : start + width] for start in range(0, max(len(cell), 1), width)]
        for cell, width in zip(cells, widths, strict=True)
    ]
    height = max(map(len, pieces))
    return [
        "  ".join(
            (piece[row] if row < len(piece) else "").ljust(width) for piece, width in zip(pieces, widths, strict=True)
        ).rstrip()
        for row in range(height)
    ]
