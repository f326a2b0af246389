"""Registers the ops of this package with TensorFlow: at once if TensorFlow is imported, else when it is.

So a SavedModel can be loaded right after `import tensorflow_ipu`, which by itself does not import TensorFlow.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_log = logging.getLogger("tensorflow_ipu")


def register_ops() -> None:
    """See the top of this file. Idempotent."""
    if hasattr(sys.modules.get("tensorflow"), "load_op_library"):
        _register()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def _register() -> None:
    if importlib.util.find_spec("tensorflow_ipu._native") is None:  # used from the source tree
        return
    try:
        importlib.import_module("tensorflow_ipu._runtime")
    except Exception as error:  # importing TensorFlow must not fail because of it; using this package will
        _log.warning("The ops of tensorflow_ipu cannot be registered: %s", error)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds TensorFlow as the other finders do, and registers the ops once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            _register_after(spec.loader)
        return spec


def _register_after(loader: Any) -> None:
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        load(module)
        _register()

    loader.exec_module = exec_module
