"""The compilation of a program to an executable file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import tensorflow as tf

from tensorflow_ipu._runtime import native
from tensorflow_ipu.config.targets import PjrtTarget
from tensorflow_ipu.errors import native_error
from tensorflow_ipu.program.program import DeviceTarget, Program, ValueRef


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
