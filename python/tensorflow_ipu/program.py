"""A program for the device: stages of HLO and how values flow between them, and its compilation to an
executable.

trace -> freeze -> fold -> lower (lowering.py)  ->  Stage, Program, compile_program (here)  ->  executable
file
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import tensorflow as tf

from tensorflow_ipu._runtime import native
from tensorflow_ipu.errors import native_error
from tensorflow_ipu.targets import PjrtTarget

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


def _spec_json(spec: tf.TensorSpec) -> dict:
    # Element types are numbered as tensorflow.DataType. 64-bit integers are strings in proto3 JSON.
    return {
        "name": spec.name or "",
        "type": tf.as_dtype(spec.dtype).as_datatype_enum,
        "dims": [str(dim) for dim in spec.shape.as_list()],
    }


def _ref_json(ref: ValueRef) -> dict:
    return {"source": ref.source.value, "index": ref.index, "stage": ref.stage}


def _target_json(target: DeviceTarget) -> dict:
    if target.pjrt is not None:
        return {"numIpus": target.num_ipus, "pjrt": {"name": target.pjrt.name}}
    ipu = {
        "architecture": target.architecture,
        "tilesPerIpu": target.tiles_per_ipu,
        "memoryPerTile": str(target.memory_per_tile),
        "cpu": target.cpu,
        "remoteBuffers": target.remote_buffers,
    }
    return {"numIpus": target.num_ipus, "ipu": ipu}


def _plugin_options(target: PjrtTarget | None) -> dict[str, dict[str, str]]:
    """Further arguments of native.compile()."""
    if target is None:
        return {}
    plugin = {"topology_name": target.topology_name, **dataclasses.asdict(target.plugin)}
    return {"plugin": plugin, "topology_options": dict(target.topology_options)}


def header_json(program: Program) -> str:
    """The caller's part of tfipu.ExecutableHeader as proto3 JSON."""
    header = {
        "target": _target_json(program.target),
        "name": program.name,
        "iterations": str(program.iterations),
        "schedule": program.schedule,
        "stages": [
            {"name": stage.name, "ipu": stage.ipu, "arguments": [_ref_json(ref) for ref in stage.arguments]}
            for stage in program.stages
        ],
        "startupInputs": [_spec_json(spec) for spec in program.startup_inputs],
        "infeeds": [_spec_json(spec) for spec in program.infeeds],
        "outfeeds": [{"name": name} for name in program.outfeed_names],
        "outfeedValues": [_ref_json(ref) for ref in program.outfeed_values],
        "carried": [
            {
                "spec": _spec_json(carried.spec),
                "initial": _ref_json(carried.initial),
                "next": _ref_json(carried.next),
            }
            for carried in program.carried
        ],
        "hold": program.hold,
        "timeoutUs": str(program.timeout_us),
        "dynamicBatch": program.dynamic_batch,
        "maxWaitUs": str(program.max_wait_us),
        "replicas": program.replicas,
        "floatingPoint": dict(program.floating_point),
        "options": dict(program.options),
    }
    return json.dumps(header)


def compile_program(
    program: Program, path: str, progress: Callable[[str, float], None] | None = None
) -> None:
    """Compiles the program ahead of time and writes the executable to `path`.

    Args:
      progress: called with what is being done and the share done so far, 0 to 1.

    Raises:
      ValueError: HLO and header do not fit, a shape is dynamic, an operation cannot be compiled.
      tf.errors.ResourceExhaustedError: a stage is larger than its IPU's memory; gives both sizes.
    """
    try:
        native.compile(
            header_json(program),
            [stage.hlo for stage in program.stages],
            path,
            progress=progress,
            initial_values=list(program.initial_values),
            row_variants=[(variant.rows, list(variant.stage_hlo)) for variant in program.row_variants],
            **_plugin_options(program.target.pjrt),
        )
    except native.StatusError as error:
        if error.code == tf.errors.INVALID_ARGUMENT:
            raise ValueError(error.message) from None
        raise native_error(error) from None
