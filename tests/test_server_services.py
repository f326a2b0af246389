"""What the server offers, and to whom, as flags and files say: services, checks, TLS, the page of metrics."""

from __future__ import annotations

import shutil
import subprocess
import urllib.error
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from model_server import ModelServer, channel
from prometheus_page import DEFAULT_PATH, monitoring_flag, page
from served_models import predict, write_adder
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

HEALTH_CHECK = "/grpc.health.v1.Health/Check"
PROFILE = "/tensorflow.ProfilerService/Profile"
NO_MESSAGE = b"\xff"


@pytest.fixture(scope="module")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("adder")
    write_adder(base, 1, 2.0)
    return base


def serve(base: Path, *flags: str) -> ModelServer:
    return ModelServer(f"--model_base_path={base}", "--model_name=m", *flags)


def code(server: ModelServer, method: str, message: bytes = b"") -> grpc.StatusCode:
    with channel(server) as connection:
        try:
            connection.unary_unary(method)(message, timeout=60)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def services(server: ModelServer) -> bytes:
    """What reflection lists."""
    method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    with channel(server) as connection:
        return next(iter(connection.stream_stream(method)(iter([b"\x3a\x00"]), timeout=60)))


def add(connection: grpc.Channel, count: int = 1) -> float:
    call = predict_pb2.PredictRequest()
    call.model_spec.name = "m"
    call.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0] * count))
    stub = prediction_service_pb2_grpc.PredictionServiceStub(connection)
    return stub.Predict(call, timeout=60).outputs["y"].float_val[0]


def test_services_can_be_left_out(adder: Path) -> None:
    with serve(adder) as server:
        assert code(server, HEALTH_CHECK) == grpc.StatusCode.OK
        assert code(server, PROFILE, NO_MESSAGE) == grpc.StatusCode.INVALID_ARGUMENT
        listed = services(server)
        assert b"grpc.health.v1.Health" in listed and b"tensorflow.ProfilerService" in listed
    with serve(adder, "--noenable_grpc_healthcheck_service", "--enable_profiler=false") as server:
        assert code(server, HEALTH_CHECK) == grpc.StatusCode.UNIMPLEMENTED
        assert code(server, PROFILE, NO_MESSAGE) == grpc.StatusCode.UNIMPLEMENTED
        listed = services(server)
        assert b"grpc.health.v1.Health" not in listed and b"tensorflow.ProfilerService" not in listed
        with channel(server) as connection:
            assert add(connection) == 3.0


def test_apis_that_are_off_have_no_port(adder: Path) -> None:
    with serve(adder, "--port=0") as server:
        assert server.grpc_port == 0
        assert predict(server.rest, "m", [1.0])[0] == 200
    with serve(adder, "--rest_api_port=0") as server, channel(server) as connection:
        assert server.rest_port == 0
        assert add(connection) == 3.0


def test_method_names_are_checked_when_told_to(adder: Path, tmp_path: Path) -> None:
    base = tmp_path / "other"
    shutil.copytree(adder, base)
    file = base / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    model.meta_graphs[0].signature_def["serving_default"].method_name = "tensorflow/serving/other"
    file.write_bytes(model.SerializeToString())
    with serve(base) as server:
        assert predict(server.rest, "m", [1.0]) == (200, {"predictions": [3.0]})
    with serve(base, "--enable_signature_method_name_check") as server:
        status, answer = predict(server.rest, "m", [1.0])
        assert status == 500 and "tensorflow/serving/other" in answer["error"]
        with channel(server) as connection, pytest.raises(grpc.RpcError) as refused:
            add(connection)
        assert refused.value.code() == grpc.StatusCode.INTERNAL


def test_the_page_of_metrics_is_where_the_config_says(adder: Path, tmp_path: Path) -> None:
    with serve(
        adder, monitoring_flag(tmp_path, 'prometheus_config { enable: true path: "/numbers" }')
    ) as server:
        assert ":tensorflow:" in page(server, "/numbers")
        with pytest.raises(urllib.error.HTTPError):
            page(server, DEFAULT_PATH)
    with serve(adder, monitoring_flag(tmp_path, "prometheus_config { enable: false }")) as server:
        with pytest.raises(urllib.error.HTTPError):
            page(server, DEFAULT_PATH)
    with pytest.raises(RuntimeError, match="is no MonitoringConfig"):
        serve(adder, monitoring_flag(tmp_path, "prometheus { enable: true }"))


class Authority:
    """Signs certificates for localhost, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("needs the openssl program")
        self._openssl = openssl
        self._folder = folder
        folder.mkdir()
        (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        new = ["-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem"]
        self._run("req", "-x509", *new, "-days", "2", "-subj", "/CN=authority")
        self.certificate = (folder / "ca.pem").read_bytes()

    def issue(self) -> tuple[bytes, bytes]:
        """A new key and its certificate."""
        new = ["-newkey", "rsa:2048", "-nodes", "-keyout", "one.key", "-out", "one.csr"]
        self._run("req", *new, "-subj", "/CN=localhost")
        signing = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        self._run("x509", "-req", "-in", "one.csr", "-out", "one.pem", *signing)
        return (self._folder / "one.key").read_bytes(), (self._folder / "one.pem").read_bytes()

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._openssl, *arguments], cwd=self._folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    folder = tmp_path_factory.mktemp("authorities")
    return Authority(folder / "known"), Authority(folder / "stranger")


def ssl_flag(folder: Path, **fields: bytes | bool) -> str:
    file = folder / "ssl.config"
    lines = []
    for name, value in fields.items():
        text = (
            str(value).lower() if isinstance(value, bool) else '"' + value.decode().replace("\n", "\\n") + '"'
        )
        lines.append(f"{name}: {text}\n")
    file.write_text("".join(lines))
    return f"--ssl_config_file={file}"


def secure_add(server: ModelServer, *credentials: bytes) -> float:
    target = f"localhost:{server.grpc_port}"
    unbounded = [("grpc.max_receive_message_length", -1)]
    with grpc.secure_channel(target, grpc.ssl_channel_credentials(*credentials), unbounded) as connection:
        return add(connection, 1_000_000)


def test_clients_are_verified_against_the_authority_when_told_to(
    adder: Path, tmp_path: Path, authorities: tuple[Authority, Authority]
) -> None:
    known, stranger = authorities
    key, certificate = known.issue()
    client, foreign = known.issue(), stranger.issue()
    fields = {"server_key": key, "server_cert": certificate, "custom_ca": known.certificate}

    with serve(adder, ssl_flag(tmp_path, **fields, client_verify=True)) as server:
        assert secure_add(server, known.certificate, *client) == 3.0
        for refused in ((), foreign):
            with pytest.raises(grpc.RpcError) as error:
                secure_add(server, known.certificate, *refused)
            assert error.value.code() == grpc.StatusCode.UNAVAILABLE
        with channel(server) as plain, pytest.raises(grpc.RpcError):
            add(plain)
        # REST is plain HTTP, as TensorFlow Serving's is.
        assert predict(server.rest, "m", [1.0]) == (200, {"predictions": [3.0]})
    with serve(adder, ssl_flag(tmp_path, **fields, client_verify=False)) as server:
        assert secure_add(server, known.certificate) == 3.0
        # A client that trusts another authority does not take this server for the one that it wants.
        with pytest.raises(grpc.RpcError) as error:
            secure_add(server, stranger.certificate)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_wrong_keys_end_the_start_with_their_reason(
    adder: Path, tmp_path: Path, authorities: tuple[Authority, Authority]
) -> None:
    known, _ = authorities
    (key, certificate), (other_key, _) = known.issue(), known.issue()
    for fields, reason in (
        ({"server_key": b"no key", "server_cert": certificate}, "server_key is not a PEM private key"),
        ({"server_key": key, "server_cert": b"no certificate"}, "server_cert is not a PEM certificate"),
        ({"server_key": other_key, "server_cert": certificate}, "server_key .* server_cert"),
        (
            {"server_key": key, "server_cert": certificate, "custom_ca": b"none"},
            "custom_ca does not hold a PEM certificate",
        ),
        ({"server_cert": certificate}, "server_key is not a PEM private key"),
    ):
        with pytest.raises(RuntimeError, match=reason):
            serve(adder, ssl_flag(tmp_path, **fields))  # type: ignore[arg-type]
