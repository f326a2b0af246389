"""What a model can be compiled for, by the names that `target=` takes: "ipu", "cpu-pjrt", "cuda:h100", ...

Code for a GPU or a TPU is generated without one: the plugin gets a description of the device instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from tensorflow_ipu.config.gpu_descriptions import GPUS, target_config
from tensorflow_ipu.device_plugins import PLATFORMS, DevicePlugin, installed_plugins, packages, plugin_at

# Topologies with one process, by the names that libtpu gives them.
_TPUS = {"v4": "v4:2x2x1", "v5e": "v5e:2x2x1", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2x1"}


@dataclass(frozen=True)
class PjrtTarget:
    """A device of a PJRT plugin.

    name: as given.
    topology_name, topology_options: describe devices that need not be here; empty: those of this machine.
    """

    name: str
    plugin: DevicePlugin
    topology_name: str = ""
    topology_options: Mapping[str, str] = field(default_factory=dict)


def resolve_target(target: str, device_plugin: str | None = None) -> PjrtTarget | None:
    """The target of that name; None for "ipu".

    Args:
      target: "ipu", "cpu-pjrt", "cuda" or "tpu" for the devices of this machine, "cuda:GPU" or "tpu:TPU" for
        a named one.
      device_plugin: path of the plugin's library. None: that of an installed package.

    Raises:
      TypeError: `target` is not a string.
      ValueError: there is no such target, or no plugin for it.
    """
    if not isinstance(target, str):
        raise TypeError(f"`target` must be the name of a target, but a {type(target).__name__} was given.")
    if target == "ipu":
        if device_plugin is not None:
            raise ValueError("`device_plugin` is for PJRT targets, but `target` is 'ipu'.")
        return None
    platform, _, device = ("cpu", "", "") if target == "cpu-pjrt" else target.partition(":")
    if target not in target_names():
        raise ValueError(f"There is no target {target!r}. There are {', '.join(map(repr, target_names()))}.")
    plugin = _plugin(target, platform, device_plugin)
    if platform == "cuda" and device:
        return PjrtTarget(
            target, plugin, "", {"target_config": target_config(GPUS[device]), "topology": "1x1x1"}
        )
    if platform == "tpu":
        # Outside of a TPU machine libtpu would wait for one that answers.
        if device:
            os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
        return PjrtTarget(target, plugin, _TPUS.get(device, ""))
    return PjrtTarget(target, plugin)


def target_names() -> list[str]:
    """All names that `target=` takes."""
    return [
        "ipu",
        "cpu-pjrt",
        "cuda",
        *(f"cuda:{name}" for name in GPUS),
        "tpu",
        *(f"tpu:{name}" for name in _TPUS),
    ]


def _plugin(target: str, platform: str, device_plugin: str | None) -> DevicePlugin:
    assert platform in PLATFORMS
    if device_plugin is not None:
        if not isinstance(device_plugin, (str, os.PathLike)):
            raise TypeError(
                f"`device_plugin` must be a path, but a {type(device_plugin).__name__} was given."
            )
        if not os.path.isfile(device_plugin):
            raise ValueError(f"There is no PJRT plugin at {os.fspath(device_plugin)!r}.")
        return plugin_at(os.fspath(device_plugin))
    for plugin in installed_plugins(platform):
        return plugin
    raise ValueError(
        f"The target {target!r} needs a PJRT plugin. Install one of the packages "
        f"{', '.join(packages(platform))}, or pass the path of its library as `device_plugin`."
    )
