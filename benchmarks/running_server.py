"""A model server that a benchmark runs against, of any vendor: known by its flags and its REST API only."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def rss_mib(pid: int) -> float:
    match = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(match.group(1)) / 1024 if match else 0.0


class Server:
    """A running server. Knows how long it took from its start until all models were served."""

    def __init__(self, binary: str, config: Path, flags: Sequence[str], models: Sequence[str]) -> None:
        self.grpc_port, self.rest_port = free_port(), free_port()
        self._models = models
        self._log = tempfile.TemporaryFile()
        started = time.monotonic()
        self.process = subprocess.Popen(
            [
                binary,
                f"--port={self.grpc_port}",
                f"--rest_api_port={self.rest_port}",
                f"--model_config_file={config}",
                *flags,
            ],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        self._wait()
        self.startup_s = time.monotonic() - started

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self._log.seek(0)
                sys.exit(f"the server ended: {self._log.read().decode(errors='replace')[-2000:]}")
            if all(self._available(model) for model in self._models):
                return
            time.sleep(0.005)
        sys.exit("the server served no models within a minute")

    def _available(self, model: str) -> bool:
        return b"AVAILABLE" in self.get(f"/v1/models/{model}")

    def get(self, path: str) -> bytes:
        """Head and body of a REST answer; empty when there is none."""
        try:
            with socket.create_connection(("127.0.0.1", self.rest_port), timeout=60) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                return connection.makefile("rb").read()
        except OSError:
            return b""

    def stop(self) -> None:
        # Stock servers do not end on SIGTERM at once.
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
