"""`tensorflow_ipu_client` against the server: each call, over both APIs, with both clients."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer
from served_models import write_adder
from tensorflow_ipu_client import (
    TLS,
    AsyncClient,
    Class,
    Client,
    Code,
    Model,
    ServingError,
    Signature,
    Task,
    TensorSpec,
    VersionStatus,
)

ELEMENT_TYPES = [
    *(tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int8, tf.int16, tf.int32, tf.int64),
    *(tf.uint8, tf.uint16, tf.uint32, tf.uint64, tf.bool, tf.string, tf.complex64, tf.complex128),
]
IN_REST = [one for one in ELEMENT_TYPES if not one.is_complex]


class Mirror(tf.Module):
    """Gives back what it gets, for one type in each signature, with a second output."""

    @staticmethod
    def signature(dtype: tf.DType) -> Any:
        @tf.function(input_signature=[tf.TensorSpec([None, 2], dtype, name="x")])
        def mirror(x: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"y": tf.identity(x), "rows": tf.shape(x)[0]}

        return mirror


class Rows(tf.Module):
    """Classify and Regress by the feature "x"; the name of a class is that of the context's "label"."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def classify(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        features = {
            "x": tf.io.FixedLenFeature([], tf.float32),
            "label": tf.io.FixedLenFeature([], tf.string),
        }
        parsed = tf.io.parse_example(examples, features)
        return {
            "classes": tf.stack([parsed["label"], tf.strings.join([parsed["label"], "!"])], 1),
            "scores": tf.stack([parsed["x"], -parsed["x"]], 1),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def regress(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})
        return {"outputs": parsed["x"] * 2}


def write_rows(base: Path) -> None:
    """The method names are what makes a signature one for Classify or Regress."""
    from tensorflow.core.protobuf import saved_model_pb2

    module = Rows()
    tf.saved_model.save(module, str(base / "1"), {"classify": module.classify, "regress": module.regress})
    file = base / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for name in ("classify", "regress"):
        signature = model.meta_graphs[0].signature_def[name]
        signature.method_name = f"tensorflow/serving/{name}"
        (given,) = list(signature.inputs)
        signature.inputs["inputs"].CopyFrom(signature.inputs[given])
        if given != "inputs":
            del signature.inputs[given]
    file.write_bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("models")
    write_adder(folder / "adder", 1, 1.0)
    write_adder(folder / "adder", 2, 2.0)
    mirror = Mirror()
    signatures = {one.name: mirror.signature(one) for one in ELEMENT_TYPES}
    tf.saved_model.save(mirror, str(folder / "mirror" / "1"), signatures)
    write_rows(folder / "rows")
    config = folder / "models.config"
    config.write_text(
        "model_config_list {"
        f' config {{ name: "adder" base_path: "{folder}/adder" model_platform: "tensorflow"'
        '  model_version_policy { all {} } version_labels { key: "old one" value: 1 } }'
        f' config {{ name: "mirror" base_path: "{folder}/mirror" model_platform: "tensorflow" }}'
        f' config {{ name: "rows" base_path: "{folder}/rows" model_platform: "tensorflow" }}'
        "}"
    )
    with ModelServer(f"--model_config_file={config}") as running:
        yield running


@pytest.fixture(params=["grpc", "rest"])
def address(request: pytest.FixtureRequest, server: ModelServer) -> str:
    return server.target if request.param == "grpc" else server.rest


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """call(address, "predict", ...) by one of the two clients."""

    def run(address: str, method: str, *arguments: Any, tls: Any = None, **options: Any) -> Any:
        if request.param == "sync":
            with Client(address, tls=tls) as client:
                return getattr(client, method)(*arguments, **options)

        async def run_async() -> Any:
            async with AsyncClient(address, tls=tls) as client:
                return await getattr(client, method)(*arguments, **options)

        return asyncio.run(run_async())

    return run


def values_of(dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        return np.array([[b"a", "\u00e9".encode()], [b"", b'"\\']], object)
    array = np.array([[0, 1], [1, 3]]).astype(dtype.as_numpy_dtype)
    if dtype.is_integer:
        array[0, 0], array[0, 1] = dtype.min, dtype.max
    if dtype.is_floating:
        array[1, 1] = 1 / 3
    if dtype.is_complex:
        array[1, 1] = 1 / 3 - 2j
    return array


@pytest.mark.parametrize("dtype", ELEMENT_TYPES, ids=lambda one: one.name)
def test_values_of_each_type_come_back(call: Any, address: str, dtype: tf.DType) -> None:
    values = values_of(dtype)
    if address.startswith("http") and dtype not in IN_REST:
        with pytest.raises(TypeError, match="call over gRPC"):
            call(address, "predict", Model("mirror", signature=dtype.name), {"x": values})
        return
    outputs = call(address, "predict", Model("mirror", signature=dtype.name), {"x": values})
    assert sorted(outputs) == ["rows", "y"]
    assert outputs["rows"].dtype == np.int32 and outputs["rows"] == 2
    assert outputs["y"].dtype == values.dtype
    np.testing.assert_array_equal(outputs["y"], values)


def test_floats_that_are_not_numbers(call: Any, address: str) -> None:
    values = np.array([[np.nan, np.inf], [-np.inf, 0.1]], np.float32)
    outputs = call(address, "predict", Model("mirror", signature="float32"), {"x": values})
    np.testing.assert_array_equal(outputs["y"], values)


def test_bytes_that_are_not_text(call: Any, address: str) -> None:
    values = np.array([[b"\xff\x00", b"x"]], object)
    outputs = call(address, "predict", Model("mirror", signature="string"), {"x": values})
    np.testing.assert_array_equal(outputs["y"], values)


def test_no_rows(call: Any, address: str) -> None:
    inputs = {"x": np.zeros((0, 2), np.float32)}
    outputs = call(address, "predict", Model("mirror", signature="float32"), inputs)
    assert outputs["y"].shape == (0, 2) and outputs["rows"] == 0


def test_one_output_and_python_numbers(call: Any, address: str) -> None:
    outputs = call(address, "predict", "adder", {"x": [1, 2.5]})
    assert list(outputs) == ["y"] and outputs["y"].tolist() == [3.0, 4.5] and outputs["y"].dtype == np.float32


def test_outputs_are_those_asked_for(call: Any, address: str) -> None:
    values = np.ones((1, 2), np.float32)
    outputs = call(address, "predict", Model("mirror", signature="float32"), {"x": values}, outputs=["y"])
    assert list(outputs) == ["y"]


def test_versions_labels_priorities_and_headers(call: Any, address: str) -> None:
    inputs = {"x": [1.0]}
    assert call(address, "predict", Model("adder", version=1), inputs)["y"] == [2.0]
    assert call(address, "predict", Model("adder", version=2), inputs, priority="high")["y"] == [3.0]
    old = Model("adder", label="old one")
    assert call(address, "predict", old, inputs, headers={"x-request-id": "7"})["y"] == [2.0]


def test_classify_and_regress(call: Any, address: str) -> None:
    rows = [{"x": 0.5}, {"x": np.float32(1.5)}]
    model = Model("rows", signature="classify")
    classes = call(address, "classify", model, rows, context={"label": "\u00e9"})
    assert classes == [
        [Class("\u00e9", 0.5), Class("\u00e9!", -0.5)],
        [Class("\u00e9", 1.5), Class("\u00e9!", -1.5)],
    ]
    with_label = [{"x": 0.5, "label": b"a"}]
    assert call(address, "classify", model, with_label)[0][0] == Class("a", 0.5)
    values = call(address, "regress", Model("rows", signature="regress"), rows)
    assert values.dtype == np.float32 and values.tolist() == [1.0, 3.0]
    with pytest.raises(TypeError, match="expected a list of rows"):
        call(address, "regress", "rows", rows[0])


def test_multi_inference(call: Any, address: str) -> None:
    tasks = [Task("rows", "classify", "classify"), Task("rows", "regress", "regress")]
    rows = [{"x": 2.0, "label": "a"}]
    if address.startswith("http"):
        with pytest.raises(ServingError, match="UNIMPLEMENTED.*call over gRPC"):
            call(address, "multi_inference", tasks, rows)
        return
    classes, values = call(address, "multi_inference", tasks, rows)
    assert classes == [[Class("a", 2.0), Class("a!", -2.0)]] and values.tolist() == [4.0]


def test_status_and_metadata(call: Any, address: str) -> None:
    assert sorted(call(address, "status", "adder"), key=lambda one: one.version) == [
        VersionStatus(1, "AVAILABLE", 0, ""),
        VersionStatus(2, "AVAILABLE", 0, ""),
    ]
    signatures = call(address, "metadata", "mirror")
    assert signatures["bfloat16"] == Signature(
        {"x": TensorSpec("bfloat16", (None, 2))},
        {"rows": TensorSpec("int32", ()), "y": TensorSpec("bfloat16", (None, 2))},
        "tensorflow/serving/predict",
    )


def test_errors_have_the_code_and_the_servers_words(call: Any, address: str) -> None:
    with pytest.raises(ServingError) as unknown:
        call(address, "predict", "nobody", {"x": [1.0]})
    assert unknown.value.code == Code.NOT_FOUND and "nobody" in unknown.value.message
    with pytest.raises(ServingError) as wrong:
        call(address, "predict", "adder", {"y": [1.0]})
    assert wrong.value.code == Code.INVALID_ARGUMENT
    with pytest.raises(ServingError) as signature:
        call(address, "predict", Model("adder", signature="other"), {"x": [1.0]})
    assert signature.value.code in (Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION, Code.NOT_FOUND)


def test_calls_of_many_threads_and_tasks(address: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Client(address) as client, ThreadPoolExecutor(8) as pool:
        results = pool.map(
            lambda i: float(client.predict("adder", {"x": [i]})["y"][0]), map(float, range(64))
        )
        assert list(results) == [i + 2.0 for i in range(64)]

    async def gather() -> list[float]:
        async with AsyncClient(address) as client:
            answers = await asyncio.gather(*(client.predict("adder", {"x": [float(i)]}) for i in range(64)))
        return [float(one["y"][0]) for one in answers]

    assert asyncio.run(gather()) == [i + 2.0 for i in range(64)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program")
    folder = tmp_path_factory.mktemp("certificate")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=models.test"
    )
    subprocess.run(
        [
            *command.split(),
            "-addext",
            "subjectAltName=DNS:models.test",
            "-keyout",
            "key.pem",
            "-out",
            "cert.pem",
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


def test_tls(call: Any, tmp_path: Path, certificate: Path) -> None:
    write_adder(tmp_path / "adder", 1, 2.0)
    config = tmp_path / "ssl.config"
    key, cert = (certificate / "key.pem").read_text(), (certificate / "cert.pem").read_text()
    config.write_text(f"server_key: {key!r}\nserver_cert: {cert!r}\n")
    flags = (f"--model_base_path={tmp_path / 'adder'}", "--model_name=adder", f"--ssl_config_file={config}")
    with ModelServer(*flags) as server:
        trusted = TLS(ca=cert.encode(), server_name="models.test")
        outputs = call(server.target, "predict", "adder", {"x": [1.0]}, tls=trusted)
        assert outputs["y"].tolist() == [3.0]
        with pytest.raises(ServingError) as untrusted:
            call(server.target, "predict", "adder", {"x": [1.0]}, tls=True, timeout=1.0)
        assert untrusted.value.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


def test_https(call: Any, certificate: Path) -> None:
    """As behind a proxy that ends TLS: the server's own REST has none."""
    import http.server
    import ssl
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"model_version_status": []}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    listener.socket = context.wrap_socket(listener.socket, server_side=True)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        address = f"https://127.0.0.1:{listener.server_address[1]}"
        trusted = TLS(ca=(certificate / "cert.pem").read_bytes(), server_name="models.test")
        assert call(address, "status", "m", tls=trusted) == []
        with pytest.raises(ServingError, match="certificate"):
            call(address, "status", "m", timeout=1.0)
    finally:
        listener.shutdown()
        listener.server_close()


def test_bfloat16_is_ml_dtypes(server: ModelServer) -> None:
    with Client(server.target) as client:
        values = np.ones((1, 2), ml_dtypes.bfloat16)
        assert client.predict(Model("mirror", signature="bfloat16"), {"x": values})["y"].dtype == values.dtype
