"""The gRPC transport of the running server: limits, deadlines, Unix sockets, health, reflection."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer, channel
from served_models import Gate, write_adder
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

Stub = prediction_service_pb2_grpc.PredictionServiceStub
# Defined in the protos, but served by nobody.
SESSION_RUN = "/tensorflow.serving.SessionService/SessionRun"


def adder_request(count: int = 1, model: str = "adder") -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones(count, np.float32)))
    return request


def add(connection: grpc.Channel, count: int = 1, **how: object) -> float:
    reply = Stub(connection).Predict(adder_request(count), timeout=60, **how)
    return reply.outputs["y"].float_val[0]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model "adder" (x + 2), and a config that serves it and the model of `gate`."""
    folder = tmp_path_factory.mktemp("models")
    write_adder(folder / "adder", 1, 2.0)
    configs = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }}\n'
        for name in ("adder", "gate")
    )
    (folder / "models.config").write_text(f"model_config_list {{ {configs} }}")
    return folder


@pytest.fixture(scope="module")
def gate(models: Path) -> Gate:
    return Gate(models / "gate", 1)


@pytest.fixture(scope="module")
def server(models: Path, gate: Gate) -> Iterator[ModelServer]:
    with ModelServer(f"--model_config_file={models / 'models.config'}") as running:
        yield running


def test_slow_calls_starve_nobody(server: ModelServer, gate: Gate) -> None:
    with channel(server) as connection, channel(server) as other:
        gated = adder_request(1, "gate")
        waiting = [Stub(connection).Predict.future(gated, timeout=120) for _ in range(32)]
        # All of them hang in the model, and everything else is answered.
        for _ in range(20):
            assert add(other) == 3.0
            assert add(connection) == 3.0
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "gate"
        model_service = model_service_pb2_grpc.ModelServiceStub(other)
        assert model_service.GetModelStatus(status, timeout=60).model_version_status[0].version == 1
        assert other.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=60) == b"\x08\x01"
        assert not any(call.done() for call in waiting)
        with gate.open():
            assert all(call.result().outputs["y"].float_val[0] == 1.0 for call in waiting)


def test_deadline_and_cancellation_end_a_waiting_call(server: ModelServer, gate: Gate) -> None:
    with channel(server) as connection:
        with pytest.raises(grpc.RpcError) as error:
            Stub(connection).Predict(adder_request(1, "gate"), timeout=0.2)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        call = Stub(connection).Predict.future(adder_request(1, "gate"), timeout=60)
        assert call.cancel()
        assert add(connection) == 3.0
    # The abandoned calls leave the model.
    with gate.open(), channel(server) as connection:
        assert Stub(connection).Predict(adder_request(1, "gate"), timeout=60).outputs["y"].float_val[0] == 1.0


def test_many_clients_at_once(server: ModelServer) -> None:
    def client(seed: int) -> bool:
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.target, options) as connection:
            stub = Stub(connection)
            for i in range(100):
                request = adder_request(1 + (seed * 31 + i * 7) % 500)
                request.inputs["x"].CopyFrom(
                    tf.make_tensor_proto(np.full(1 + (seed * 31 + i * 7) % 500, seed * 1000 + i, np.float32))
                )
                values = stub.Predict(request, timeout=60).outputs["y"].float_val
                if len(values) != 1 + (seed * 31 + i * 7) % 500 or set(values) != {seed * 1000 + i + 2}:
                    return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(client, range(16)))


def test_garbage_on_the_port_harms_nobody(server: ModelServer) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    with channel(server) as connection:
        for junk in (b"GET / HTTP/1.1\r\n\r\n", preface + os.urandom(3000), os.urandom(3000), preface, b""):
            with socket.create_connection(("127.0.0.1", server.grpc_port)) as client:
                client.sendall(junk)
                client.shutdown(socket.SHUT_WR)
                client.settimeout(60)
                try:
                    while client.recv(4096):
                        pass
                except ConnectionResetError:
                    pass
            assert add(connection) == 3.0


def test_unknown_methods_are_unimplemented(server: ModelServer) -> None:
    with channel(server) as connection:
        for path in ("/tensorflow.serving.PredictionService/Nope", "/nope", SESSION_RUN):
            with pytest.raises(grpc.RpcError) as error:
                connection.unary_unary(path)(b"", timeout=60)
            assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def reflection(connection: grpc.Channel, ask: bytes, version: str = "v1") -> bytes:
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    return next(iter(connection.stream_stream(method)(iter([ask]), timeout=60)))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_and_describes_services(server: ModelServer, version: str) -> None:
    with channel(server) as connection:
        listed = reflection(connection, b"\x3a\x00", version)
        for service in (
            b"tensorflow.serving.PredictionService",
            b"tensorflow.serving.ModelService",
            b"tensorflow.ProfilerService",
            b"grpc.health.v1.Health",
        ):
            assert service in listed
        symbol = b"tensorflow.serving.PredictionService"
        described = reflection(connection, b"\x22" + bytes([len(symbol)]) + symbol, version)
        # Among the files is the one that defines the service.
        assert b"tensorflow_serving/apis/prediction_service.proto" in described
        missing = reflection(connection, b"\x22\x04nope", version)
        assert b"Not found: nope" in missing


def test_requests_over_the_bound_are_refused(models: Path) -> None:
    flags = ["--model_name=adder", f"--model_base_path={models / 'adder'}", "--grpc_max_request_bytes=10000"]
    with ModelServer(*flags) as server, channel(server) as connection:
        assert add(connection, 2000) == 3.0
        with pytest.raises(grpc.RpcError) as error:
            add(connection, 10_000)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        # Small on the wire, too large after.
        request = adder_request()
        request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.zeros(100_000, np.float32)))
        request.inputs["x"].tensor_content = bytes(400_000)
        with pytest.raises(grpc.RpcError) as error:
            Stub(connection).Predict(request, timeout=60, compression=grpc.Compression.Gzip)
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert add(connection) == 3.0


def test_channel_arguments(models: Path) -> None:
    arguments = "grpc.default_compression_algorithm=2,grpc.max_connection_age_ms=1,grpc.so_reuseport=0"
    flags = [
        "--model_name=adder",
        f"--model_base_path={models / 'adder'}",
        f"--grpc_channel_arguments={arguments}",
    ]
    with ModelServer(*flags) as server:
        for _ in range(3):
            with channel(server) as connection:
                assert add(connection, 50_000) == 3.0
        assert "grpc.so_reuseport has no effect" in server.log()
    with pytest.raises(RuntimeError, match="key=value"):
        ModelServer(*flags[:2], "--grpc_channel_arguments=nonsense")


def test_unix_socket(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "grpc.sock"
    # A socket that a dead server left behind.
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    flags = ["--model_name=adder", f"--model_base_path={models / 'adder'}", f"--grpc_socket_path={path}"]
    with ModelServer(*flags) as server:
        with grpc.insecure_channel(f"unix:{path}") as connection:
            assert add(connection) == 3.0
        with channel(server) as connection:
            assert add(connection) == 3.0
    assert not path.exists()


def test_reload_replaces_the_models(models: Path, gate: Gate, tmp_path: Path) -> None:
    write_adder(tmp_path / "other", 4, 10.0)
    with (
        ModelServer(f"--model_config_file={models / 'models.config'}") as server,
        channel(server) as connection,
    ):
        assert add(connection) == 3.0
        request = model_management_pb2.ReloadConfigRequest()
        config = request.config.model_config_list.config.add()
        config.name, config.base_path, config.model_platform = "adder", str(tmp_path / "other"), "tensorflow"
        service = model_service_pb2_grpc.ModelServiceStub(connection)
        assert service.HandleReloadConfigRequest(request, timeout=120).status.error_code == 0
        assert add(connection) == 11.0
        with pytest.raises(grpc.RpcError) as error:
            Stub(connection).Predict(adder_request(1, "gate"), timeout=60)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as error:
            service.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest(), timeout=60)
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert add(connection) == 11.0


def test_profiles_are_taken(server: ModelServer, tmp_path: Path) -> None:
    # ProfileRequest: duration_ms = 1: 50, repository_root = 5, session_id = 6, host_name = 7.
    root = str(tmp_path).encode()
    request = b"\x08\x32\x2a" + bytes([len(root)]) + root + b"\x32\x01s\x3a\x01h"
    with channel(server) as connection:
        connection.unary_unary("/tensorflow.ProfilerService/Profile")(request, timeout=120)
        assert add(connection) == 3.0
    assert list((tmp_path / "s").glob("*.xplane.pb"))
