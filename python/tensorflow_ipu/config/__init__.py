"""The configuration of the IPU system: `IPUConfig`, what of it is in force, and the target it gives to an
export.

A script makes an `IPUConfig`, sets attributes, and calls `configure_ipu_system()`; from then on every
export and compilation of the process is for that system. Attributes are typed and spelled-checked: a wrong
type raises TypeError, an unknown name raises `UnknownOptionError` with a suggestion. What cannot change
anything on the emulator is accepted, and the log says so once.
"""

from __future__ import annotations

from tensorflow_ipu.config.choices import (
    DeviceConnectionType,
    ExecutionProfileType,
    MergeRemoteBuffersBehaviour,
    SchedulingAlgorithm,
    SelectionOrder,
    StochasticRoundingBehaviour,
)
from tensorflow_ipu.config.flags import PoplarFlags, poplar_flags
from tensorflow_ipu.config.ipu_config import IPUConfig
from tensorflow_ipu.config.options import UnknownOptionError
from tensorflow_ipu.config.system import (
    ExportTarget,
    configure_ipu_system,
    device_sizes,
    export_target,
    get_ipu_config,
    reset_ipu_configuration,
    running_on_ipu_model,
)

__all__ = [
    "DeviceConnectionType",
    "ExecutionProfileType",
    "ExportTarget",
    "IPUConfig",
    "MergeRemoteBuffersBehaviour",
    "PoplarFlags",
    "SchedulingAlgorithm",
    "SelectionOrder",
    "StochasticRoundingBehaviour",
    "UnknownOptionError",
    "configure_ipu_system",
    "device_sizes",
    "export_target",
    "get_ipu_config",
    "poplar_flags",
    "reset_ipu_configuration",
    "running_on_ipu_model",
]
