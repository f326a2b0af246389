"""Export precompiled IPU models for TensorFlow Serving, and run them.

The modules are also importable as `tensorflow.python.ipu` and, for Keras, as `keras.ipu`. They are loaded
when they are first used.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from tensorflow_ipu import module_alias, tensorflow_version

tensorflow_version.check()

from tensorflow_ipu.keras import install_import_hook  # noqa: E402
from tensorflow_ipu.ops_registration import register_ops  # noqa: E402

_MODULES = (
    "application_compile_op",
    "config",
    "embedded_runtime",
    "ipu_compiler",
    "ipu_infeed_queue",
    "ipu_outfeed_queue",
    "ipu_strategy",
    "keras",
    "loops",
    "ops",
    "pipelining_ops",
    "scopes",
    "serving",
    "utils",
)

__all__ = ["register_alias", *_MODULES]

try:
    __version__ = importlib.metadata.version("tensorflow-ipu")
except importlib.metadata.PackageNotFoundError:  # used from the source tree
    __version__ = "0+source"

register_alias = module_alias.register_alias

# Its modules are found under several names of its own, too.
register_alias(__name__)
install_import_hook()
register_ops()


def __getattr__(name: str) -> Any:
    if name == "outlined_function":  # the original has this function here, too
        return importlib.import_module(f"{__name__}.ops.functional_ops").outlined_function
    own = None if name.startswith("_") else module_alias.own_name(name)
    if own is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return importlib.import_module(f"{__name__}.{own}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
