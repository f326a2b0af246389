"""Whatever a connection sends or does not take, the server holds a bounded part of it and serves others."""

from __future__ import annotations

import gzip
import resource
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import raw_http2 as h2
import tensorflow as tf
from model_server import ModelServer, anonymous_memory, channel
from raw_http2 import RawHttp2, message
from served_models import write_adder
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

PREDICT = "/tensorflow.serving.PredictionService/Predict"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
MIB = 1 << 20


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base path of a model that computes x + 2."""
    base = tmp_path_factory.mktemp("adder")
    write_adder(base, 1, 2.0)
    return base


@contextmanager
def serve(base: Path, *flags: str) -> Iterator[ModelServer]:
    with ModelServer("--model_name=adder", f"--model_base_path={base}", *flags) as server:
        yield server


def request(count: int = 1) -> predict_pb2.PredictRequest:
    predict = predict_pb2.PredictRequest()
    predict.model_spec.name = "adder"
    predict.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones(count, np.float32)))
    return predict


def post(server: ModelServer, body: bytes, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    url = f"{server.rest}/v1/models/adder:predict"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}), timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except (urllib.error.URLError, ConnectionError):
        return 0, b""


class Healthy:
    """A client over both protocols that goes on as long as this lasts; every answer must be right."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        self.wrong: list[object] = []
        self.answers = 0
        self.longest = 0.0
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._grpc), threading.Thread(target=self._rest)]

    def __enter__(self) -> Healthy:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()
        print(f"healthy clients: {self.answers} answers, the longest took {self.longest * 1000:.0f} ms")
        assert self.wrong == []
        assert self.answers > 0
        assert self.server.process.poll() is None

    def _took(self, start: float) -> None:
        self.longest = max(self.longest, time.monotonic() - start)
        self.answers += 1

    def _grpc(self) -> None:
        with channel(self.server) as connection:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(connection)
            while not self._end.is_set():
                start = time.monotonic()
                try:
                    values = list(stub.Predict(request(), timeout=120).outputs["y"].float_val)
                except grpc.RpcError as error:
                    values = [error]
                if values != [3.0]:
                    self.wrong.append(values)
                self._took(start)

    def _rest(self) -> None:
        while not self._end.is_set():
            start = time.monotonic()
            status, body = post(self.server, b'{"instances": [1.0]}')
            if status != 200 or b"3.0" not in body:
                self.wrong.append((status, body))
            self._took(start)


def peak(server: ModelServer) -> int:
    """Bytes that the server ever had resident."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def limit_memory(server: ModelServer, more: int) -> None:
    """The server may map so many bytes beyond what it has."""
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, limit))


def metric(server: ModelServer, name: str) -> int:
    with urllib.request.urlopen(f"{server.rest}/metrics", timeout=60) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f":tensorflow_ipu:connections:{name}{{"):
                return int(line.split()[-1])
    raise AssertionError(name)


@pytest.fixture
def with_metrics(tmp_path: Path) -> str:
    config = tmp_path / "monitoring.config"
    config.write_text('prometheus_config { enable: true path: "/metrics" }')
    return f"--monitoring_config_file={config}"


def test_a_unary_call_has_one_message(adder: Path) -> None:
    with serve(adder, "--grpc_max_request_bytes=1048576") as server, Healthy(server):
        before = peak(server)
        piece = message(b"x" * 60000)
        with RawHttp2(server.grpc_port) as client:
            assert client.call(1, PREDICT)
            for _ in range(10):
                assert client.data(1, piece)
            assert client.status_of(1) == grpc.StatusCode.INTERNAL.value[0]
            # Who goes on all the same is not listened to.
            for _ in range(4000):
                if not client.data(1, piece):
                    break
        assert peak(server) - before < 64 * MIB


def test_streams_wait_for_their_answers_to_be_taken(adder: Path) -> None:
    # list_services
    ask = message(b"\x3a\x29" + b"x" * 41)
    with serve(adder, "--shutdown_grace_seconds=100") as server:
        with Healthy(server):
            before = peak(server)
            client = RawHttp2(server.grpc_port, h2.NO_WINDOW)
            client.call(1, REFLECTION)
            client.socket.settimeout(3)
            try:
                for _ in range(2000):
                    client.data(1, ask * 100)
            except TimeoutError:
                pass  # as it should: no more is taken
            assert peak(server) - before < 32 * MIB
        # The client is still there, and takes nothing.
        assert server.stop(timeout=30) == 0
        client.socket.close()


def test_bodies_that_inflate_are_bounded_together(adder: Path, with_metrics: str) -> None:
    body = gzip.compress(b'{"instances": [1.0' + b" " * (250 * MIB) + b"]}", 9)
    assert len(body) < 300_000
    headers = {"Content-Encoding": "gzip"}
    flags = ("--max_inflight_bytes=400000000", with_metrics)
    with serve(adder, *flags) as server, Healthy(server), ThreadPoolExecutor(16) as pool:
        before = peak(server)
        answers = list(pool.map(lambda _: post(server, body, headers), range(16)))
        assert {status for status, _ in answers} <= {200, 503}
        assert 503 in {status for status, _ in answers}
        assert peak(server) - before < 600_000_000
        assert metric(server, "held_bytes_limit") == 400_000_000
        assert metric(server, "refused_count") >= 1
        assert 0 < metric(server, "most_held_bytes") <= 410_000_000
        assert metric(server, "most_held_bytes_of_one") > 0
        # One alone fits, and what it took is given back.
        assert post(server, body, headers)[0] == 200
        while metric(server, "held_bytes") > 0 or anonymous_memory(server) << 10 > before + 200 * MIB:
            time.sleep(0.05)


def test_the_default_bound_allows_the_largest_request(adder: Path) -> None:
    body = gzip.compress(b'{"instances": [1.0' + b" " * (250 * MIB) + b"]}", 9)
    headers = {"Content-Encoding": "gzip"}
    with serve(adder) as server, Healthy(server), ThreadPoolExecutor(16) as pool:
        before = peak(server)
        answers = list(pool.map(lambda _: post(server, body, headers), range(16)))
        assert 200 in {status for status, _ in answers}
        assert {status for status, _ in answers} <= {200, 503}
        assert peak(server) - before < 1700 * MIB


def test_one_connection_is_bounded(adder: Path) -> None:
    with serve(adder, "--max_connection_bytes=1000000") as server, Healthy(server):
        assert post(server, b" " * 2_000_000)[0] == 503
        with channel(server) as connection:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(connection)
            with pytest.raises(grpc.RpcError) as error:
                stub.Predict(request(1_000_000), timeout=60)
            assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert len(stub.Predict(request(50_000), timeout=60).outputs["y"].float_val) == 50_000


def test_a_message_that_cannot_be_allocated_costs_its_call(adder: Path) -> None:
    bomb = gzip.compress(b"\0" * (1500 * MIB), 6)
    with serve(adder, "--max_inflight_bytes=8000000000") as server:
        limit_memory(server, 700 * MIB)
        with Healthy(server), RawHttp2(server.grpc_port) as client:
            client.call(1, PREDICT, {"grpc-encoding": "gzip"})
            packed = message(bomb, compressed=True)
            for at in range(0, len(packed), 16384):
                client.data(1, packed[at : at + 16384])
            client.data(1, b"", last=True)
            assert client.status_of(1) == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            # A body, too.
            assert post(server, b"x", {"Content-Encoding": "gzip"})[0] == 400
            assert post(server, bomb, {"Content-Encoding": "gzip"})[0] in (413, 503)


def test_answers_that_nobody_reads_are_bounded(adder: Path) -> None:
    ask = message(request(200_000).SerializeToString())
    with serve(adder, "--max_connection_bytes=20000000", "--shutdown_grace_seconds=100") as server:
        with Healthy(server):
            before = peak(server)
            client = RawHttp2(server.grpc_port, h2.NO_WINDOW)
            for stream in range(1, 401, 2):
                client.call(stream, PREDICT)
                for at in range(0, len(ask), 16384):
                    client.data(stream, ask[at : at + 16384])
                client.data(stream, b"", last=True)
            assert peak(server) - before < 100 * MIB
        assert server.stop(timeout=30) == 0
        client.socket.close()


def test_a_message_that_never_comes_ends_at_its_deadline(adder: Path) -> None:
    with serve(adder) as server, RawHttp2(server.grpc_port) as client:
        client.call(1, PREDICT, {"grpc-timeout": "50m"})
        assert client.status_of(1) == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        for stream, wrong in enumerate(("50", "x", "-1S", "123456789S", "1 S"), start=1):
            client.call(2 * stream + 1, PREDICT, {"grpc-timeout": wrong})
            assert client.status_of(2 * stream + 1) == grpc.StatusCode.INTERNAL.value[0]


def test_connections_that_grow_old_lose_no_call(adder: Path) -> None:
    flags = "--grpc_channel_arguments=grpc.max_connection_age_ms=300"
    with serve(adder, flags) as server:

        def client(_: int) -> tuple[int, int]:
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
            done = 0
            with grpc.insecure_channel(server.target, options) as connection:
                stub = prediction_service_pb2_grpc.PredictionServiceStub(connection)
                for _ in range(300):
                    done += len(stub.Predict(request(250_000), timeout=60).outputs["y"].float_val) == 250_000
            return done, 300

        with ThreadPoolExecutor(4) as pool:
            for done, asked in pool.map(client, range(4)):
                assert done == asked


@pytest.mark.parametrize("kind", ["ping", "settings", "empty data", "reset", "continuation"])
def test_floods_harm_nobody(adder: Path, kind: str) -> None:
    with serve(adder) as server, Healthy(server), RawHttp2(server.grpc_port) as client:
        before = peak(server)
        client.call(1, PREDICT)
        pieces = {
            "ping": h2.frame(h2.PING, 0, 0, b"12345678"),
            "settings": h2.frame(h2.SETTINGS, 0, 0),
            "empty data": h2.frame(h2.DATA, 0, 1),
            "continuation": h2.frame(h2.CONTINUATION, 0, 3, h2.field(b"name", b"value")),
        }
        if kind == "continuation":
            client.call(3, PREDICT, flags=0)
        if kind == "reset":
            for stream in range(3, 200_001, 2):
                reset = h2.frame(h2.RST_STREAM, 0, stream, b"\0\0\0\x08")
                if not (client.call(stream, PREDICT) and client.send(reset)):
                    break
        else:
            for _ in range(2000):
                if not client.send(pieces[kind] * 100):
                    break
        assert peak(server) - before < 32 * MIB


def test_rest_speaks_tls(adder: Path, tmp_path: Path) -> None:
    import ssl
    import subprocess

    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate]
        + ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    lines = [
        f"{name}: {path.read_text()!r}" for name, path in (("server_key", key), ("server_cert", certificate))
    ]
    verified = [f"custom_ca: {certificate.read_text()!r}", "client_verify: true"]
    for number, (extra, with_client) in enumerate([([], False), (verified, True)]):
        config = tmp_path / f"ssl{number}.config"
        config.write_text("\n".join(lines + extra))
        context = ssl.create_default_context(cafile=str(certificate))
        if with_client:
            context.load_cert_chain(certificate, key)
        with serve(adder, f"--rest_ssl_config_file={config}") as server:
            url = f"https://127.0.0.1:{server.rest_port}/v1/models/adder:predict"
            body = b'{"instances": [' + b"1.0," * 400_000 + b"1.0]}"
            for _ in range(3):
                with urllib.request.urlopen(
                    urllib.request.Request(url, body), context=context, timeout=60
                ) as answer:
                    assert answer.read().count(b"3.0") == 400_001
            # Others are neither answered nor waited for.
            with socket.create_connection(("127.0.0.1", server.rest_port), timeout=60) as plain:
                plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert not plain.makefile("rb").read().startswith(b"HTTP")
            if with_client:
                stranger = ssl.create_default_context(cafile=str(certificate))
                with pytest.raises((urllib.error.URLError, ConnectionError, ssl.SSLError)):
                    urllib.request.urlopen(url, body, context=stranger, timeout=60)


def test_the_bounds_must_be_numbers_of_bytes(adder: Path) -> None:
    for flag in ("--max_connection_bytes=-1", "--max_inflight_bytes=-1"):
        with pytest.raises(RuntimeError, match="expected a number of bytes"), serve(adder, flag):
            pass
