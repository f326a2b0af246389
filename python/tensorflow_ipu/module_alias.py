"""Makes modules of this package importable under a second name, as the same objects."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

_PACKAGE = "tensorflow_ipu"


def register_alias(alias: str, package: str = _PACKAGE) -> None:
    """From now on `import ALIAS.module` gives `PACKAGE.module`; the package ALIAS itself is not touched."""
    if not any(isinstance(finder, _Finder) and finder.prefix == f"{alias}." for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(f"{alias}.", package))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, prefix: str, package: str) -> None:
        self.prefix = prefix
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        if not fullname.startswith(self.prefix):
            return None
        relative = fullname.removeprefix(self.prefix)
        own = f"{self._package}.{relative.removeprefix('ops.')}"
        return importlib.machinery.ModuleSpec(fullname, _Loader(own))


class _Loader(importlib.abc.Loader):
    def __init__(self, own_name: str) -> None:
        self._own_name = own_name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        module = importlib.import_module(self._own_name)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        # The import system has just written the alias' spec into the module.
        module.__spec__ = self._own_spec
