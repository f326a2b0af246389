"""The server's page of metrics."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from model_server import ModelServer

DEFAULT_PATH = "/monitoring/prometheus/metrics"


def monitoring_flag(folder: Path, config: str = "prometheus_config { enable: true }") -> str:
    """Writes a monitoring config, and returns the flag that names it."""
    file = folder / "monitoring.config"
    file.write_text(config)
    return f"--monitoring_config_file={file}"


def page(server: ModelServer, path: str = DEFAULT_PATH) -> str:
    with urllib.request.urlopen(f"{server.rest}{path}", timeout=30) as response:
        return response.read().decode()


def metric_value(server: ModelServer, metric: str) -> float:
    """The sum over all samples whose name and labels begin like this; 0 when there is none."""
    lines = [line for line in page(server).splitlines() if line.startswith(metric)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
