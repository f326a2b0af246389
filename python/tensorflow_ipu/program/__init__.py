"""A program for the device, how it is collected from a function that builds one, and its compilation.

lowering  ->  Stage, Program (program.py)  ->  compile_program (compile.py)  ->  executable file

A function that builds a program with loops, pipelines and queues is collected (collect.py) and compiled as a
traced program (traced_program.py).
"""

from __future__ import annotations

from tensorflow_ipu.program.compile import compile_program
from tensorflow_ipu.program.program import (
    DEFAULT_TARGET_CPU,
    DEFAULT_TIMEOUT_US,
    Carried,
    DeviceTarget,
    Program,
    RowVariant,
    Source,
    Stage,
    ValueRef,
)

__all__ = [
    "DEFAULT_TARGET_CPU",
    "DEFAULT_TIMEOUT_US",
    "Carried",
    "DeviceTarget",
    "Program",
    "RowVariant",
    "Source",
    "Stage",
    "ValueRef",
    "compile_program",
]
