"""Makes modules of this package importable under other names, as the same objects.

`tensorflow.python.ipu.X` and `tensorflow.python.ipu.ops.X` are `tensorflow_ipu.X` or, for operations,
`tensorflow_ipu.ops.X`; so are `tensorflow_ipu.ops.X` and `tensorflow_ipu.X`, whichever has the file. A module
of the original API that is not here can be imported as well: see not_provided.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from tensorflow_ipu import not_provided

_PACKAGE = "tensorflow_ipu"
_FOLDER = os.path.dirname(os.path.abspath(__file__))


def register_alias(alias: str, package: str = _PACKAGE) -> None:
    """From now on `import ALIAS.module` gives `PACKAGE.module`; the package ALIAS itself is not touched."""
    if not any(isinstance(finder, _Finder) and finder.prefix == f"{alias}." for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(f"{alias}.", f"{package}.".removeprefix(f"{_PACKAGE}.")))


def own_name(relative: str) -> str | None:
    """The name below this package of a module that a program calls `relative`; None when there is none."""
    plain = relative.removeprefix("ops.")
    for candidate in (relative, plain, f"ops.{plain}"):
        path = os.path.join(_FOLDER, *candidate.split("."))
        if os.path.exists(f"{path}.py") or os.path.exists(os.path.join(path, "__init__.py")):
            return candidate
    return plain if not_provided.is_module(plain) else None


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, prefix: str, folder: str) -> None:
        self.prefix = prefix
        self._folder = folder  # "" or "keras."

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if not fullname.startswith(self.prefix):
            return None
        own = own_name(self._folder + fullname.removeprefix(self.prefix))
        if own is None:
            return None
        if f"{_PACKAGE}.{own}" != fullname:
            return importlib.machinery.ModuleSpec(fullname, _Loader(f"{_PACKAGE}.{own}"))
        if not_provided.is_module(own):
            return importlib.machinery.ModuleSpec(fullname, not_provided.Loader(own), is_package=True)
        return None  # a file, which Python finds itself


class _Loader(importlib.abc.Loader):
    def __init__(self, own: str) -> None:
        self._own = own

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._own)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just written the alias' spec into the module.
        module.__spec__ = self._own_spec
