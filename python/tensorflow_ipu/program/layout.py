"""Where the stages of a pipeline are, how they take turns, and their options."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorflow_ipu.program.device_mapping import as_device_mapping


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


@dataclass(frozen=True)
class PipelineLayout:
    """Where the stages of a pipeline are and how they take turns.

    hold: further batches that must enter before the device gives up a batch's results.
    options: the stages' options as text, for people who inspect an executable.
    """

    device_mapping: Sequence[int]
    num_ipus: int
    schedule: PipelineSchedule
    hold: int
    options: Mapping[str, str]


def pipeline_layout(
    stages: int,
    device_mapping: Sequence[int] | None = None,
    pipeline_schedule: PipelineSchedule | None = None,
    stage_options: Sequence[PipelineStageOptions] | None = None,
    options_argument: str = "forward_propagation_stages_poplar_options",
) -> PipelineLayout:
    """Checks the arguments that lay out a pipeline against each other.

    IPUs are counted when the pipeline is compiled: a script may configure them after it has built its graph.

    Args:
      stages: how many there are.
      device_mapping: the IPU of each stage; None for stage k on IPU k.
      pipeline_schedule: None for Grouped.
      stage_options: options of each stage; None for none.
      options_argument: what the caller's `stage_options` are called, for messages.

    Raises:
      TypeError: an argument is of a wrong type.
      ValueError: fewer than two stages; a list has not one entry a stage.
    """
    if stages < 2:
        raise ValueError(f"A pipeline requires at least two computational stages, but {stages} was given.")
    if pipeline_schedule is None:
        pipeline_schedule = PipelineSchedule.Grouped
    if not isinstance(pipeline_schedule, PipelineSchedule):
        raise TypeError(f"`pipeline_schedule` must be a PipelineSchedule, not {pipeline_schedule!r}.")
    mapping = as_device_mapping(device_mapping, stages)
    return PipelineLayout(
        device_mapping=mapping,
        num_ipus=max(mapping) + 1,
        schedule=pipeline_schedule,
        hold=0 if pipeline_schedule is PipelineSchedule.Sequential else stages - 1,
        options=_stage_options_text(stages, stage_options, options_argument),
    )


def _stage_options_text(stages: int, options: Any, argument: str) -> dict[str, str]:
    if options is None:
        return {}
    if not isinstance(options, (list, tuple)) or not all(
        isinstance(item, PipelineStageOptions) for item in options
    ):
        raise TypeError(f"`{argument}` must be a list or tuple of PipelineStageOptions, not {options!r}.")
    if len(options) != stages:
        raise ValueError(
            f"`{argument}` must have one PipelineStageOptions a stage: {len(options)} were given, but there"
            f" are {stages} stages."
        )
    return {f"stage_{number}": json.dumps(item.to_dict()) for number, item in enumerate(options)}
