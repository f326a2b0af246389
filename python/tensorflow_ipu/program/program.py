"""A program for the device: stages of HLO, and how values flow between them."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

import tensorflow as tf

from tensorflow_ipu.config import ExportTarget, export_target
from tensorflow_ipu.program.layout import PipelineLayout

DEFAULT_TIMEOUT_US = 5000


class Source(enum.Enum):
    """Where an argument of a stage, or an outfeed, comes from. Names of tfipu.ValueRef.Source."""

    INFEED = "INFEED"  # index into Program.infeeds
    STARTUP_INPUT = "STARTUP_INPUT"  # index into Program.startup_inputs
    STAGE_RESULT = "STAGE_RESULT"  # result `index` of the earlier stage `stage`
    CARRIED = "CARRIED"  # index into Program.carried: kept from step to step
    WEIGHT = "WEIGHT"  # of Carried.initial only: index into Program.initial_values


@dataclass(frozen=True)
class ValueRef:
    source: Source
    index: int
    stage: int = 0


@dataclass(frozen=True)
class Stage:
    """One stage, lowered.

    hlo: serialised xla.HloModuleProto, as of lowering.lower().
    arguments: one for each parameter of the HLO, in order.
    """

    name: str
    ipu: int
    hlo: bytes
    arguments: Sequence[ValueRef]


@dataclass(frozen=True)
class Carried:
    """A value handed from each step to the next; every run of the program starts it anew as `initial`."""

    spec: tf.TensorSpec
    initial: ValueRef
    next: ValueRef


@dataclass(frozen=True)
class RowVariant:
    """The stages' HLO for a number of rows below the batch."""

    rows: int
    stage_hlo: Sequence[bytes]


@dataclass(frozen=True)
class Program:
    """Everything the compiler needs to know besides the HLO. All shapes are static.

    layout: of the stages; its number of IPUs is the program's.
    target: that of the configuration in force, unless another one is given.
    """

    name: str
    stages: Sequence[Stage]
    infeeds: Sequence[tf.TensorSpec]
    outfeed_names: Sequence[str]
    outfeed_values: Sequence[ValueRef]
    iterations: int = 1
    startup_inputs: Sequence[tf.TensorSpec] = ()
    carried: Sequence[Carried] = ()
    initial_values: Sequence[bytes] = ()  # constants that carried values start as
    layout: PipelineLayout = field(default_factory=PipelineLayout)
    timeout_us: int = DEFAULT_TIMEOUT_US
    dynamic_batch: bool = False
    max_wait_us: int = 0
    row_variants: Sequence[RowVariant] = ()  # in order of their rows
    replicas: int = 0  # whoever runs it chooses
    target: ExportTarget = field(default_factory=export_target)
