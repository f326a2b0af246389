"""A program for the device: stages of HLO, and how values flow between them."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf

from tensorflow_ipu.config.targets import PjrtTarget

DEFAULT_TIMEOUT_US = 5000
DEFAULT_TARGET_CPU = "x86-64-v3"


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
class DeviceTarget:
    """What the program is compiled for. The defaults are one emulated "ipu2" for each IPU.

    pjrt: the device of a PJRT plugin; then of the others only num_ipus, its number of devices, counts.
    """

    architecture: str = "ipu2"
    num_ipus: int = 1
    tiles_per_ipu: int = 1472
    memory_per_tile: int = 624 * 1024
    cpu: str = DEFAULT_TARGET_CPU
    remote_buffers: bool = False
    pjrt: PjrtTarget | None = None


@dataclass(frozen=True)
class RowVariant:
    """The stages' HLO for a number of rows below the batch."""

    rows: int
    stage_hlo: Sequence[bytes]


@dataclass(frozen=True)
class Program:
    """Everything the compiler needs to know besides the HLO. All shapes are static.

    schedule: "GROUPED", "INTERLEAVED" or "SEQUENTIAL".
    hold: further batches that must enter before the device gives up a batch's results.
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
    schedule: str = "GROUPED"
    hold: int = 0
    timeout_us: int = DEFAULT_TIMEOUT_US
    dynamic_batch: bool = False
    max_wait_us: int = 0
    row_variants: Sequence[RowVariant] = ()  # in order of their rows
    replicas: int = 0  # whoever runs it chooses
    target: DeviceTarget = field(default_factory=DeviceTarget)
    floating_point: Mapping[str, bool] = field(default_factory=dict)  # any of inv, div0, oflo
    options: Mapping[str, str] = field(default_factory=dict)  # for people who inspect the file
