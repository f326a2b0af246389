"""Starts the installed `tensorflow_model_server` for a test and stops it after."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
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


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ModelServer:
    """A running server with its gRPC and REST ports.

    Raises RuntimeError with the server's log when it ends before its gRPC port answers.
    """

    def __init__(self, *flags: str, timeout: float = 120.0, wait: bool = True) -> None:
        self.grpc_port = free_port()
        self.rest_port = free_port()
        self._log: list[str] = []
        self.process = subprocess.Popen(
            [server_binary(), f"--port={self.grpc_port}", f"--rest_api_port={self.rest_port}", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "1"},
        )
        # Read all the time: a full pipe would stop the server.
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        if wait:
            self._wait_until_listening(timeout)

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

    def _wait_until_listening(self, timeout: float) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                self._reader.join(10)
                raise RuntimeError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.grpc_port)) == 0:
                    return
            time.sleep(0.02)
        self.process.kill()
        raise RuntimeError(f"the server did not listen within {timeout} s:\n{self.log()}")


def channel(server: ModelServer) -> grpc.Channel:
    """A channel that takes replies of any size."""
    return grpc.insecure_channel(
        server.target,
        [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
