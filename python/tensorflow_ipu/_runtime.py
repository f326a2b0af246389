"""Loads the native module: its ops into TensorFlow, and its functions into Python.

Attributes:
  ops: The module with `application_runtime` and `application_call`, made by TensorFlow from the op library.
  native: The module `_native`: compiler, executables and engines.
"""

from __future__ import annotations

import importlib.util
from types import ModuleType

import tensorflow as tf

from tensorflow_ipu.device_plugins import offer_installed_plugins


def _load() -> tuple[ModuleType, ModuleType]:
    spec = importlib.util.find_spec("tensorflow_ipu._native")
    if spec is None or spec.origin is None:
        raise ImportError(
            "tensorflow_ipu was installed without its native module `_native`. Install the package from a "
            "wheel, or build it with `pip install .` in its source folder."
        )
    # The op library first: TensorFlow learns of the ops while it loads the file, which happens once.
    loaded_ops = tf.load_op_library(spec.origin)
    from tensorflow_ipu import _native

    return loaded_ops, _native


ops, native = _load()
offer_installed_plugins(native)
