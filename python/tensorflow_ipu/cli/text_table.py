"""Tables and sizes for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], indent: str = "  ") -> str:
    """Columns as wide as their contents; numbers to the right, all else to the left."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(head, *texts, strict=True)]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) or _is_number(str(row[i])) for row in rows)
        for i in range(len(head))
    ]

    def line(cells: Sequence[str]) -> str:
        parts = zip(cells, widths, numeric, strict=True)
        return indent + "  ".join(c.rjust(w) if right else c.ljust(w) for c, w, right in parts).rstrip()

    return "\n".join([line(head), *(line(row) for row in texts)])


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(",", "").replace(".", "", 1).rstrip("%").isdigit()


def size_text(size: float) -> str:
    """Bytes for people: "1.5 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"


def listing(pairs: Sequence[tuple[str, str]], width: int = 0) -> Iterator[str]:
    """Lines "name    value"."""
    width = width or max(len(name) for name, _ in pairs)
    for name, value in pairs:
        yield f"{name.ljust(width)}  {value}"


def count_text(number: int, noun: str) -> str:
    """A number of things: "1 stage", "2 stages"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
