"""A table of the layer calls of a model and their pipeline stages, in the form of `model.summary()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

# Where columns end, as shares of the line: for Sequential models, which have no column of inputs, and others.
_ENDS = {2: (0.5, 1.0), 3: (0.4, 0.8, 1.0)}


def print_summary(
    model: Any,
    assignments: Sequence[Any],
    sequential: bool,
    line_length: int | None,
    print_fn: Callable[[str], Any],
) -> None:
    """Prints the assignments of a model's layers.

    Args:
      line_length: of all lines. None: 60 for Sequential models and 89 for others.
    """
    length = line_length or (60 if sequential else 89)
    header = ["Layer (type)", "Pipeline Stage"]
    if not sequential:
        header = ["Layer (type) (node index)", "Input Layers", "Pipeline Stage"]
    ends = [int(length * share) for share in _ENDS[len(header)]]
    print_fn(f'Model: "{model.name}"')
    print_fn("_" * length)
    print_fn(_line(header, ends))
    for position, rows in enumerate(_entries(assignments, "", sequential)):
        print_fn(("_" if position else "=") * length)
        for row in rows:
            print_fn(_line(row, ends))
    print_fn("=" * length)


def _entries(assignments: Sequence[Any], indent: str, sequential: bool) -> Iterator[list[list[str]]]:
    """The rows of each assignment; those inside a nested model are indented below it."""
    for item in assignments:
        layer = item.nested_model if item.is_nested_model else item.layer
        name = f"{indent}{layer.name} ({type(layer).__name__})"
        stage = "" if item.is_nested_model else str(item.pipeline_stage)
        if sequential:
            yield [[name, stage]]
        else:
            index = getattr(item, "node_index", 0)
            inputs = [parent.name for parent in getattr(item, "inbound_layers", ())] or [""]
            yield [[f"{name} ({index})", inputs[0], stage], *(["", other, ""] for other in inputs[1:])]
        if item.is_nested_model:
            yield from _entries(item.pipeline_stage_assignments, indent + "  ", sequential)


def _line(cells: Sequence[str], ends: Sequence[int]) -> str:
    """Cells that are too long are cut, with a space between columns."""
    line = ""
    for cell, end in zip(cells, ends, strict=True):
        line = f"{line[:-1]} {cell}" if line else cell
        line = line[:end].ljust(end)
    return line
