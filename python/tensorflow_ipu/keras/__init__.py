"""Keras models on the IPU: `keras.ipu`, and the methods that models made in an IPU strategy have.

`attach()` makes this package available as `keras.ipu` (and `tf_keras.ipu`) and gives `keras.Model` its
methods. It is called when a strategy's scope is entered, and through an import hook as soon as Keras is
imported: importing `tensorflow_ipu` does not import Keras.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tensorflow_ipu.keras.pipeline_stage import (
    FunctionalLayerPipelineStageAssignment,
    ModelLayerPipelineStageAssignment,
    PipelineStage,
    SequentialLayerPipelineStageAssignment,
)

__all__ = [
    "FunctionalLayerPipelineStageAssignment",
    "ModelLayerPipelineStageAssignment",
    "PipelineStage",
    "SequentialLayerPipelineStageAssignment",
    "attach",
    "install_import_hook",
]

_PACKAGES = ("keras", "tf_keras")


def attach() -> None:
    """Attaches to the Keras packages that are imported by now. Idempotent."""
    for name in _PACKAGES:
        module = sys.modules.get(name)
        if module is not None and hasattr(module, "Model"):
            _attach_to(module)


def _attach_to(module: ModuleType) -> None:
    from tensorflow_ipu.keras import layer_calls, model_methods

    layer_calls.track()
    this = sys.modules[__name__]
    sys.modules[f"{module.__name__}.ipu"] = this
    module.ipu = this  # type: ignore[attr-defined]
    model_methods.add_to(module.Model)
    # `tf.keras` is a module of its own with the same contents.
    alias = sys.modules.get("keras._tf_keras.keras")
    if module.__name__ == "keras" and alias is not None:
        alias.ipu = this  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Keras as the other finders do, and attaches to it once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in (*_PACKAGES, "keras._tf_keras.keras"):
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _attach_after(spec.loader)
                return spec
        return None


def _attach_after(loader: Any) -> None:
    load = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        load(module)
        attach()

    loader.exec_module = exec_module


def install_import_hook() -> None:
    """Attaches to each Keras package: now if it is imported, else when it is. Idempotent."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    attach()
