"""Starts the installed `tensorflow_model_server` for a test and stops it after."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType

import grpc


def server_binary() -> str:
    """The server of this Python's environment; the variable TENSORFLOW_MODEL_SERVER names another."""
    named = os.environ.get("TENSORFLOW_MODEL_SERVER")
    beside = Path(sys.executable).parent / "tensorflow_model_server"
    found = named or (str(beside) if beside.exists() else shutil.which("tensorflow_model_server"))
    if not found:
        raise FileNotFoundError("tensorflow_model_server is not installed in this environment")
    return found


class ModelServer:
    """A running server with its gRPC and REST ports.

    `tensorflow_log`: with all of TensorFlow's own warnings, rather than what users see. `port_file`: a file
    that the server writes its ports to, where it matters which.

    Raises RuntimeError with the server's log when it ends before it listens.
    """

    def __init__(
        self,
        *flags: str,
        timeout: float = 120.0,
        tensorflow_log: bool = True,
        port_file: Path | None = None,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        port_file = port_file or Path(self._folder.name) / "ports.json"
        self._log: list[str] = []
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1"}
        if not tensorflow_log:
            del environment["TF_CPP_MIN_LOG_LEVEL"]
        self.process = subprocess.Popen(
            [server_binary(), "--port=-1", "--rest_api_port=-1", f"--port_file={port_file}", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
        )
        # Read all the time: a full pipe would stop the server.
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        ports = self._wait_until_listening(port_file, timeout)
        self.grpc_port, self.rest_port = ports["grpc"], ports["rest"]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def target(self) -> str:
        """What a gRPC channel is made for."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def rest(self) -> str:
        """The base URL of the REST API."""
        return f"http://127.0.0.1:{self.rest_port}"

    def log(self) -> str:
        return "".join(self._log)

    def stop(self, timeout: float = 60.0) -> int:
        """Asks the server to end, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self._reader.join(10)
            self._folder.cleanup()

    def __enter__(self) -> ModelServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._log.append(line)

    def _wait_until_listening(self, port_file: Path, timeout: float) -> dict[str, int]:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self._reader.join(10)
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            if port_file.exists() and (written := port_file.read_text()):
                return json.loads(written)
            time.sleep(0.02)
        self.process.kill()
        raise RuntimeError(f"the server did not listen within {timeout} s:\n{self.log()}")


def channel(server: ModelServer) -> grpc.Channel:
    """A channel that takes replies of any size."""
    return grpc.insecure_channel(
        server.target,
        [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )


def threads(server: ModelServer, name: str) -> int:
    """How many of the server's threads have this name."""
    tasks = Path(f"/proc/{server.pid}/task").iterdir()
    return sum((task / "comm").read_text().strip() == name for task in tasks)


def anonymous_memory(server: ModelServer) -> int:
    """KiB of the server that are backed by no file."""
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")
