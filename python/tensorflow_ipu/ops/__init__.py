"""The folder in which scripts look for some modules: `ops.pipelining_ops`, `ops.embedded_runtime`, ...

They are the modules of the package itself, loaded when they are first used.
"""

from __future__ import annotations

import importlib
from types import ModuleType

_MODULES = ("application_compile_op", "embedded_runtime", "pipelining_ops")


def __getattr__(name: str) -> ModuleType:
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return importlib.import_module(f"tensorflow_ipu.{name}")
