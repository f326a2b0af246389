"""The PJRT plugins that tests may use: optional packages, pinned in pyproject.toml's group `pjrt`."""

from __future__ import annotations

import pytest
from tensorflow_ipu.device_plugins import DevicePlugin, installed_plugins, packages

CPU_PLUGINS = list(installed_plugins("cpu"))


def cpu_plugin() -> DevicePlugin:
    """A plugin for the CPU; skips the test where there is none."""
    if not CPU_PLUGINS:
        pytest.skip(f"no PJRT plugin for the CPU is installed ({' or '.join(packages('cpu'))})")
    return CPU_PLUGINS[0]


def cuda_plugin() -> DevicePlugin:
    """A plugin for NVIDIA GPUs, which need not be here; skips the test where there is none."""
    for plugin in installed_plugins("cuda"):
        return plugin
    pytest.skip(f"no PJRT plugin for CUDA is installed ({' or '.join(packages('cuda'))})")
