"""Keras models on the IPU: `keras.ipu`, and the methods that models made in an IPU strategy have.

`attach()` makes this package available as `keras.ipu` (and `tf_keras.ipu`) and gives `keras.Model` its
methods. It is called through an import hook as soon as Keras is imported: importing `tensorflow_ipu` does not
import Keras.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from tensorflow_ipu.module_alias import register_alias

# Where they are: they import TensorFlow, so that they are imported when they are first used.
_MODULES = {
    "FunctionalExtension": "extensions",
    "FunctionalLayerPipelineStageAssignment": "stage_assignment",
    "FunctionalNestedModelPipelineStageAssignment": "stage_assignment",
    "ModelExtension": "extensions",
    "ModelLayerPipelineStageAssignment": "stage_assignment",
    "NestedModelPipelineStageAssignment": "stage_assignment",
    "PipelineStage": "pipeline_stage",
    "ReplicatedMetricReductionMethod": "extensions.extensions_base",
    "SequentialExtension": "extensions",
    "SequentialLayerPipelineStageAssignment": "stage_assignment",
    "SequentialNestedModelPipelineStageAssignment": "stage_assignment",
}

__all__ = [
    "FunctionalExtension",
    "FunctionalLayerPipelineStageAssignment",
    "FunctionalNestedModelPipelineStageAssignment",
    "ModelExtension",
    "ModelLayerPipelineStageAssignment",
    "NestedModelPipelineStageAssignment",
    "PipelineStage",
    "ReplicatedMetricReductionMethod",
    "SequentialExtension",
    "SequentialLayerPipelineStageAssignment",
    "SequentialNestedModelPipelineStageAssignment",
    "attach",
    "extensions",
    "install_import_hook",
]

__ipu__built__ = "1"

# The Keras packages, and the modules with the same contents that `tf.keras` is.
_PACKAGES = ("keras", "tf_keras")
_ALIASES = (
    "keras._tf_keras.keras",
    "tf_keras.api._v1.keras",
    "tf_keras.api._v2.keras",
    "tensorflow.keras",
)


def __getattr__(name: str) -> Any:
    if name in ("extensions", "layers", "losses", "optimizers"):
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def attach(loaded: ModuleType | None = None) -> None:
    """Attaches to the Keras packages that are imported by now. Idempotent.

    Args:
      loaded: a module that was imported as a whole just now. Others whose import goes on are left out: one of
        the packages imports parts that count as the other's.
    """
    packages = [
        module
        for name in _PACKAGES
        if (module := sys.modules.get(name)) is not None and (module is loaded or not _in_import(module))
    ]
    if packages:
        from tensorflow_ipu.keras import export_method, layer_calls, model_methods

        layer_calls.track(packages)
        for package in packages:
            model_methods.add_to(package.Model)
            package.Model.export_for_ipu_serving = export_method.export_for_ipu_serving
    for module in packages + [sys.modules[name] for name in _ALIASES if name in sys.modules]:
        module.ipu = sys.modules[__name__]  # type: ignore[attr-defined]
        sys.modules[f"{module.__name__}.ipu"] = sys.modules[__name__]
        register_alias(f"{module.__name__}.ipu", __name__)


def _in_import(module: ModuleType) -> bool:
    return getattr(module.__spec__, "_initializing", False)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Keras as the other finders do, and attaches to it once it is loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in (*_PACKAGES, *_ALIASES):
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
        attach(module)

    loader.exec_module = exec_module


def install_import_hook() -> None:
    """Attaches to each Keras package: now if it is imported, else when it is. Idempotent."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    attach()
