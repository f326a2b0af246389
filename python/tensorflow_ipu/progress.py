"""Tells how far an export is: a bar on a terminal, or a function of the caller's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TextIO

from tensorflow_ipu.config import poplar_flags

ProgressCallback = Callable[[str, float], None]


class ProgressBar:
    """One line on a terminal, written over and over."""

    def __init__(self, stream: TextIO, width: int = 30) -> None:
        self._stream = stream
        self._width = width
        self._length = 0

    def __call__(self, what: str, done: float) -> None:
        filled = round(self._width * min(max(done, 0.0), 1.0))
        line = f"[{'=' * filled}{' ' * (self._width - filled)}] {done:4.0%} {what}"
        self._stream.write("\r" + line.ljust(self._length))
        self._length = len(line)
        if done >= 1.0:
            self._stream.write("\n")
            self._length = 0
        self._stream.flush()


def resolve_progress(progress: ProgressCallback | bool | None) -> ProgressCallback:
    """What to report to.

    Args:
      progress: None for a bar when stderr is a terminal, unless TF_POPLAR_FLAGS has --show_progress_bar; True
        for a bar, False for silence, or a function that is called with what is being done and the share done
        so far (0 to 1).

    Raises:
      TypeError: anything else.
    """
    if callable(progress):
        return progress
    if progress is None:
        asked = poplar_flags().show_progress_bar
        progress = sys.stderr.isatty() if asked is None else asked
    if not isinstance(progress, bool):
        raise TypeError(
            f"`progress` must be None, a boolean or a function of two arguments, not a "
            f"{type(progress).__name__}."
        )
    return ProgressBar(sys.stderr) if progress else lambda what, done: None


def part_of(progress: ProgressCallback, start: float, end: float) -> ProgressCallback:
    """Reports the progress of a part as progress of the whole."""
    return lambda what, done: progress(what, start + (end - start) * done)
