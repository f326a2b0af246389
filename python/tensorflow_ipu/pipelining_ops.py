"""Pipelines: the schedules and options of their stages, and `pipeline`, which builds one inside a program."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

__all__ = ["PipelineSchedule", "PipelineStageOptions"]


class PipelineSchedule(enum.IntEnum):
    """How the stages of a pipeline take turns.

    `Grouped` and `Interleaved` keep one batch in each stage, so that all IPUs work at the same time; for
    inference the two are alike. Results leave the device only when further batches enter behind them, or
    when the executable's timeout passes. `Sequential` lets one batch pass all stages before the next one
    enters: nothing overlaps, nothing is held back.
    """

    Grouped = 0
    Interleaved = 1
    Sequential = 2


class PipelineStageOptions:
    """Compilation options of one pipeline stage, which take precedence over those of the `IPUConfig`.

    The emulator's code does not depend on them: they are checked, and kept in the executable for people to
    read.
    """

    def __init__(
        self,
        convolution_options: Mapping[str, str] | None = None,
        matmul_options: Mapping[str, str] | None = None,
        slice_options: Mapping[str, str] | None = None,
    ) -> None:
        """Each argument maps option names to values; None stands for no options.

        Raises:
          TypeError: an argument is no dictionary.
        """
        self.convolution_options = _checked_options("convolution_options", convolution_options)
        self.matmul_options = _checked_options("matmul_options", matmul_options)
        self.slice_options = _checked_options("slice_options", slice_options)

    def to_dict(self) -> dict[str, dict[str, str]]:
        """The options by kind: "convolution_options", "matmul_options", "slice_options"."""
        return {
            "convolution_options": dict(self.convolution_options),
            "matmul_options": dict(self.matmul_options),
            "slice_options": dict(self.slice_options),
        }

    def __repr__(self) -> str:
        return f"PipelineStageOptions({self.to_dict()})"


def _checked_options(name: str, options: Any) -> dict[str, str]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TypeError(
            f"PipelineStageOptions.{name} must be a dictionary, but a {type(options).__name__} was given."
        )
    return {str(key): str(value) for key, value in options.items()}
