"""The folder of operations, and the one in which scripts look for some modules: `ops.pipelining_ops`, ...

All of them are modules of the package as well (`ipu.nn_ops`), and are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import Any

from tensorflow_ipu.module_alias import own_name


def __getattr__(name: str) -> Any:
    own = None if name.startswith("_") else own_name(f"ops.{name}")
    if own is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return importlib.import_module(f"tensorflow_ipu.{own}")
