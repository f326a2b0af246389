"""`tensorflow_model_server --probe`, the health client in the server's binary."""

from __future__ import annotations

import subprocess
from pathlib import Path

from model_server import ModelServer, server_binary
from served_models import write_adder


def probe(*arguments: str) -> tuple[int, str]:
    done = subprocess.run([server_binary(), *arguments], capture_output=True, text=True, timeout=120)
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_probe_tells_whether_server_and_model_are_healthy(tmp_path: Path) -> None:
    write_adder(tmp_path / "adder", 1, 1.0)
    socket = tmp_path / "socket"
    with ModelServer(
        f"--model_base_path={tmp_path / 'adder'}", "--model_name=adder", f"--grpc_socket_path={socket}"
    ) as server:
        assert probe(f"--probe={server.target}") == (0, "")
        assert probe(f"--probe={server.target}/adder") == (0, "")
        assert probe("--probe", f"--port={server.grpc_port}") == (0, "")
        assert probe("--probe", f"--grpc_socket_path={socket}") == (0, "")
        status, reason = probe(f"--probe={server.target}/other")
        assert status == 1 and 'knows no model "other"' in reason
        status, reason = probe(f"--probe=127.0.0.1:{server.rest_port}")
        assert status == 1 and "does not speak gRPC" in reason
        target = server.target
    status, reason = probe(f"--probe={target}")
    assert status == 1 and "is not healthy" in reason


def test_probe_of_a_server_whose_model_fails_is_unhealthy(tmp_path: Path) -> None:
    (tmp_path / "broken" / "1").mkdir(parents=True)
    with ModelServer(f"--model_base_path={tmp_path / 'broken'}", "--model_name=broken") as server:
        status, reason = probe(f"--probe={server.target}")
        assert status == 1 and "not serving" in reason
    with ModelServer(
        f"--model_base_path={tmp_path / 'broken'}",
        "--model_name=broken",
        "--noenable_grpc_healthcheck_service",
    ) as server:
        status, reason = probe(f"--probe={server.target}")
        assert status == 1 and "no health service" in reason


def test_a_probe_that_cannot_be_made_says_why() -> None:
    status, reason = probe("--probe=localhost")
    assert status == 1 and "expected host:port" in reason
    status, reason = probe("--probe", "--port=0")
    assert status == 1 and "--port is 0" in reason
