"""PJRT plugins that are installed as packages. Imports no TensorFlow: the command line uses it, too."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# Of each platform the packages that hold a plugin, the preferred first, and where in them it lies.
_PACKAGES = {
    "cpu": (
        ("lammps-jax-pjrt-cpu", "lammps_jax_pjrt_cpu/pjrt_c_api_cpu_plugin.so"),
        ("xla-cpu-pjrt", "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so"),
    ),
    "cuda": (
        ("jax-cuda13-pjrt", "jax_plugins/xla_cuda13/xla_cuda_plugin.so"),
        ("jax-cuda12-pjrt", "jax_plugins/xla_cuda12/xla_cuda_plugin.so"),
    ),
    "tpu": (("libtpu", "libtpu/libtpu.so"),),
}

PLATFORMS = tuple(_PACKAGES)


@dataclass(frozen=True)
class DevicePlugin:
    """A plugin's library; package and version are empty when it was given by its path."""

    path: str
    package: str = ""
    version: str = ""


def packages(platform: str) -> list[str]:
    """Names of the packages that hold a plugin for the platform."""
    return [package for package, _ in _PACKAGES[platform]]


def installed_plugins(platform: str | None = None) -> Iterator[DevicePlugin]:
    """Those that are installed here, for one platform or all."""
    for name, known in _PACKAGES.items():
        if platform not in (None, name):
            continue
        for package, library in known:
            try:
                distribution = importlib.metadata.distribution(package)
            except importlib.metadata.PackageNotFoundError:
                continue
            path = os.path.realpath(str(distribution.locate_file(library)))
            if os.path.exists(path):
                yield DevicePlugin(path, package, distribution.version)


def plugin_at(path: str) -> DevicePlugin:
    """The plugin at a path, with its package where that is a known one."""
    real = os.path.realpath(os.path.expanduser(path))
    return next((plugin for plugin in installed_plugins() if plugin.path == real), DevicePlugin(real))


def offer_installed_plugins(native: Any) -> None:
    """Tells the native module of them. None is loaded before an executable needs it."""
    for plugin in installed_plugins():
        native.add_device_plugin(plugin.path, plugin.package, plugin.version)
