"""Which requests are accepted and which are refused, and with what: as TensorFlow Serving does it.

And that no request makes the server hold more than it brings.
"""

from __future__ import annotations

import http.client
import json
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from model_server import ModelServer, channel
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
)

Stub = prediction_service_pb2_grpc.PredictionServiceStub
PREDICT = "/tensorflow.serving.PredictionService/Predict"


def spec(shape: list[int | None] | None, dtype: tf.DType = tf.float32, name: str = "x") -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


class Model(tf.Module):
    @tf.function(input_signature=[spec([])])
    def doubled(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 2.0}

    @tf.function(input_signature=[spec([None, 2])])
    def rows(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.linalg.matmul(x, [[1.0], [10.0]])}

    @tf.function(input_signature=[spec([None, 2])])
    def plus(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + 1.0}

    @tf.function(input_signature=[spec(None)])
    def any_rank(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + 1.0}

    @tf.function(input_signature=[spec([None], tf.string, "b64")])
    def bytes(self, b64: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": b64}

    @tf.function(input_signature=[spec([None])])
    def thousandth(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * 1e-3}

    @tf.function(input_signature=[spec([None], tf.string, "s")])
    def ragged(self, s: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"words": tf.strings.split(s)}

    @tf.function(input_signature=[spec([None], tf.string, "inputs")])
    def scores(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"scores": tf.zeros([tf.size(inputs), 2])}


def write_sparse(path: Path) -> None:
    tf1 = tf.compat.v1
    graph = tf1.Graph()
    with graph.as_default(), tf1.Session(graph=graph) as session:
        sparse = tf1.sparse_placeholder(tf.float32, [None, 4], name="s")
        dense = tf1.placeholder(tf.float32, [None], name="d")
        info = tf1.saved_model.build_tensor_info
        define = tf1.saved_model.signature_def_utils.build_signature_def
        method = "tensorflow/serving/predict"
        total = info(tf1.sparse_reduce_sum(sparse))
        builder = tf1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            signature_def_map={
                "serving_default": define({"s": info(sparse)}, {"y": total}, method),
                "output": define({"d": info(dense)}, {"s": info(tf1.sparse.from_dense(dense))}, method),
            },
        )
        builder.save()


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    base = tmp_path_factory.mktemp("accepted")
    model = Model()
    names = ["doubled", "rows", "plus", "any_rank", "bytes", "thousandth", "ragged", "scores"]
    tf.saved_model.save(
        model, str(base / "m" / "1"), signatures={name: getattr(model, name) for name in names}
    )
    write_sparse(base / "sparse" / "1")
    models = "".join(
        f'config {{ name: "{name}" base_path: "{base / name}" model_platform: "tensorflow" }}'
        for name in ("m", "sparse")
    )
    (base / "models.config").write_text(f"model_config_list {{ {models} }}")
    return [f"--model_config_file={base / 'models.config'}"]


@pytest.fixture(scope="module")
def server(flags: list[str]) -> Iterator[ModelServer]:
    with ModelServer(*flags) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: ModelServer) -> Iterator[Stub]:
    with channel(server) as connection:
        yield Stub(connection)


def post(server: ModelServer, body: Any, model: str = "m", verb: str = "predict") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", f"/v1/models/{model}:{verb}", raw)
    response = connection.getresponse()
    answer = json.loads(response.read().decode())
    connection.close()
    return response.status, answer


def request(signature: str, model: str = "m", **inputs: Any) -> predict_pb2.PredictRequest:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = model
    message.model_spec.signature_name = signature
    for name, value in inputs.items():
        tensor = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        message.inputs[name].CopyFrom(tensor)
    return message


def refused(call: Any, message: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as error:
        call(message, timeout=60)
    return error.value.code().name, error.value.details()


# ---- Shapes


def test_shapes_are_for_the_model_to_judge(server: ModelServer, stub: Stub) -> None:
    assert post(server, {"signature_name": "doubled", "instances": [3.0]}) == (200, {"predictions": [6.0]})
    assert post(server, {"signature_name": "plus", "instances": [1.0, 2.0]}) == (
        200,
        {"predictions": [2.0, 3.0]},
    )
    assert post(server, {"signature_name": "plus", "instances": [[1.0, 2.0, 3.0]]})[0] == 200
    # The model's own error.
    status, answer = post(server, {"signature_name": "rows", "instances": [[1.0, 2.0, 3.0]]})
    assert (status, "Matrix size-incompatible" in answer["error"]) == (400, True)
    reply = stub.Predict(request("doubled", x=np.ones([2, 2], np.float32)), timeout=60)
    assert tf.make_ndarray(reply.outputs["y"]).tolist() == [[2, 2], [2, 2]]


def test_types_are_not(server: ModelServer, stub: Stub) -> None:
    code, text = refused(stub.Predict, request("doubled", x=np.ones([2], np.float64)))
    assert (code, "expected to be float but double" in text) == ("INVALID_ARGUMENT", True)


def test_enforce_signature_shapes(flags: list[str]) -> None:
    with ModelServer(*flags, "--enforce_signature_shapes") as strict:
        status, answer = post(strict, {"signature_name": "doubled", "instances": [3.0]})
        assert (status, "expected float32 []" in answer["error"]) == (400, True)
        assert post(strict, {"signature_name": "doubled", "inputs": 3.0}) == (200, {"outputs": 6.0})


def test_shapes_that_a_signature_does_not_allow_among_those_that_are_batched(
    flags: list[str], tmp_path: Path
) -> None:
    parameters = tmp_path / "batching"
    parameters.write_text("max_batch_size { value: 16 } batch_timeout_micros { value: 5000 }")
    with ModelServer(*flags, "--enable_batching", f"--batching_parameters_file={parameters}") as batching:
        bodies = [[[1.0, 2.0]], [[1.0, 2.0, 3.0]], [1.0, 2.0], [[3.0, 1.0], [0.0, 1.0]]] * 20
        with ThreadPoolExecutor(16) as threads:
            answers = list(
                threads.map(
                    lambda rows: post(batching, {"signature_name": "rows", "instances": rows}), bodies
                )
            )
    for rows, (status, answer) in zip(bodies, answers, strict=True):
        if isinstance(rows[0], list) and len(rows[0]) == 2:
            assert (status, answer) == (200, {"predictions": [[a + 10 * b] for a, b in rows]})  # type: ignore[misc]
        else:
            assert status == 400


def test_unknown_rank_of_a_tensor_is_no_obstacle(stub: Stub) -> None:
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[1.5])
    tensor.tensor_shape.unknown_rank = True
    reply = stub.Predict(request("any_rank", x=tensor), timeout=60)
    assert tf.make_ndarray(reply.outputs["y"]).tolist() == 2.5


# ---- JSON


def test_what_follows_a_nul_is_ignored(server: ModelServer) -> None:
    body = b'{"signature_name": "doubled", "inputs": 3.0}'
    for tail in (b"\0", b" \n\0", b"\0\0", b"\0 anything {"):
        assert post(server, body + tail) == (200, {"outputs": 6.0})
    assert post(server, body + b" anything")[0] == 400
    examples = b'{"signature_name": "scores", "examples": [{}]}\0'
    assert post(server, examples, verb="classify") == (200, {"results": [[["", 0.0], ["", 0.0]]]})
    assert post(server, b"\0")[0] == 400


def test_an_input_named_b64(server: ModelServer) -> None:
    expected = {"predictions": ["hi"]}
    body = {"signature_name": "bytes"}
    assert post(server, {**body, "instances": [{"b64": "aGk="}]}) == (200, expected)
    assert post(server, {**body, "instances": ["hi"]}) == (200, expected)
    assert post(server, {**body, "inputs": {"b64": "aGk="}})[0] == 200


# ---- Signatures that cannot be called


@pytest.mark.parametrize("signature", ["serving_default", "output"])
def test_sparse_tensors(server: ModelServer, stub: Stub, signature: str) -> None:
    name, value = ("s", [1.0, 0.0]) if signature == "serving_default" else ("d", [1.0, 0.0])
    code, text = refused(stub.Predict, request(signature, "sparse", **{name: np.asarray(value, np.float32)}))
    assert (code, "sparse tensor" in text) == ("INVALID_ARGUMENT", True)
    for body in ({"instances": [1.0]}, {"inputs": {name: [1.0]}}, {"inputs": [1.0]}):
        assert post(server, {"signature_name": signature, **body}, "sparse")[0] == 400


def test_ragged_tensors(server: ModelServer, stub: Stub) -> None:
    code, text = refused(stub.Predict, request("ragged", s=[b"a b"]))
    assert (code, 'output "words" is a ragged tensor' in text) == ("INVALID_ARGUMENT", True)


def test_the_operation_that_initialises(server: ModelServer, stub: Stub) -> None:
    assert refused(stub.Predict, request("__saved_model_init_op"))[0] == "OUT_OF_RANGE"
    assert post(server, {"signature_name": "__saved_model_init_op", "inputs": {}})[0] == 400


# ---- Which error comes first, and what it says


def test_model_and_signature_come_before_tensors(server: ModelServer, stub: Stub) -> None:
    impossible = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_content=b"123")
    impossible.tensor_shape.dim.add(size=-1)
    assert refused(stub.Predict, request("", "none", x=impossible))[0] == "NOT_FOUND"
    assert refused(stub.Predict, request("none", x=impossible))[0] == "FAILED_PRECONDITION"
    assert refused(stub.Predict, request("doubled", x=impossible))[0] == "INVALID_ARGUMENT"
    body = {"instances": ["not a number"]}
    assert post(server, body, "none")[0] == 404
    status, answer = post(server, {**body, "signature_name": "none"})
    assert (status, "none" in answer["error"]) == (400, True)
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name = "none"
    assert refused(stub.Classify, classify)[0] == "NOT_FOUND"
    classify.model_spec.name = "m"
    classify.model_spec.signature_name = "none"
    code, text = refused(stub.Classify, classify)
    assert (code, '"none" not found' in text) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize("model", ["m", "none"])
@pytest.mark.parametrize("field", ["NAME", "LABEL", "SIGNATURE", "INPUT", "FILTER", "tensor"])
def test_what_is_not_a_message_is_not_looked_at(server: ModelServer, model: str, field: str) -> None:
    message = request("SIGNATURE", "NAME", INPUT=1.0)
    message.output_filter.append("FILTER")
    message.model_spec.version_label = "LABEL"
    raw = message.SerializeToString()
    if field == "tensor":
        # A dimension that is longer than its shape.
        raw += b"\x12\x09\x12\x07\x08\x01\x12\x03\x12\x7f\x08"
    else:
        raw = raw.replace(field.encode(), b"\xff\xfe" + field[2:].encode())
    if field != "NAME":
        raw = raw.replace(b"NAME", b"m   " if model == "m" else b"none")
    with channel(server) as connection:
        code, text = refused(connection.unary_unary(PREDICT), raw)
    assert code == "INTERNAL"
    assert field[2:] not in text or field == "tensor"
    assert "\ufffd" not in text


def test_errors_echo_names_in_part(server: ModelServer, stub: Stub) -> None:
    """Cut between two characters, so that what arrives is UTF-8."""
    for name in ("é" * (1 << 19), "a" + "é" * (1 << 19), "€" * (1 << 18), "b" + "😀" * (1 << 18)):
        for message in (
            request("", name),
            request(name),
            request("doubled", **{name: 1.0}),
        ):
            code, text = refused(stub.Predict, message)
            assert code in ("NOT_FOUND", "FAILED_PRECONDITION", "INVALID_ARGUMENT")
            assert name[3] in text and len(text.encode()) <= 1024 and text.endswith("...")
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[name])
        metadata.model_spec.name = "m"
        assert len(refused(stub.GetModelMetadata, metadata)[1].encode()) <= 1024
        for body in (
            {"signature_name": name, "instances": [1.0]},
            {"signature_name": "doubled", "instances": [{name: 1.0}]},
            {"signature_name": "doubled", "instances": [name]},
        ):
            status, answer = post(server, body)
            assert status == 400 and len(answer["error"].encode()) <= 1024


def test_errors_over_json_are_utf8_whatever_was_sent(server: ModelServer) -> None:
    for body in (
        b'{"signature_name": "\xff\xfe", "instances": [1]}',
        b'{"signature_name": "doubled", "instances": [{"\xff\xe2\x82": 1}]}',
        b'{"signature_name": "doubled", "instances": ["' + b"\xe2\x82\xac" * 30 + b'"]}',
    ):
        status, answer = post(server, body)  # which decodes it
        assert status == 400 and answer["error"]


def test_tasks_of_two_models_are_named_in_words(stub: Stub) -> None:
    message = inference_pb2.MultiInferenceRequest()
    for name in ("m", "other"):
        task = message.tasks.add(method_name="tensorflow/serving/classify")
        task.model_spec.name = name
        task.model_spec.signature_name = "scores"
    message.input.example_list.examples.add()
    code, text = refused(stub.MultiInference, message)
    assert code == "INVALID_ARGUMENT"
    assert 'the first names model "m", another model "other"' in text


# ---- Numbers


def test_denormal_numbers_are_zeros(server: ModelServer, stub: Stub) -> None:
    """As in TensorFlow's own threads."""
    values = np.array([1e-38, 1.0, 1e-40], np.float32)
    for _ in range(50):  # so that it runs in each of the threads that may run it
        reply = stub.Predict(request("thousandth", x=values), timeout=60)
        assert tf.make_ndarray(reply.outputs["y"]).tolist() == [0.0, np.float32(1e-3), 0.0]
    assert post(server, {"signature_name": "thousandth", "instances": [1e-38]}) == (
        200,
        {"predictions": [0.0]},
    )


# ---- What a request may make the server hold


def many(dtype: int, size: int, **fields: Any) -> tensor_pb2.TensorProto:
    tensor = tensor_pb2.TensorProto(dtype=dtype, **fields)  # type: ignore[arg-type]
    tensor.tensor_shape.dim.add(size=size)
    return tensor


def test_small_requests_do_not_ask_for_much_memory(flags: list[str]) -> None:
    one_megabyte = b"x" * (1 << 20)
    strings = many(types_pb2.DT_STRING, 1 << 20, string_val=[one_megabyte])
    hostile = [
        request("bytes", b64=strings),
        request("bytes", other=strings),
        request("doubled", x=strings),
        request("", "none", x=strings),
        request("bytes", b64=many(types_pb2.DT_STRING, 1 << 30, string_val=[b"x"])),
        request("bytes", b64=many(types_pb2.DT_STRING, 1 << 30, tensor_content=b"x" * 100)),
        request("plus", x=many(types_pb2.DT_FLOAT, 1 << 31, float_val=[1.0])),
        request("plus", x=many(types_pb2.DT_FLOAT, 1 << 31, tensor_content=b"1234")),
        request("plus", x=many(types_pb2.DT_DOUBLE, 1 << 31)),
        request("plus", x=many(types_pb2.DT_FLOAT, 1 << 40, int_val=[1] * 1000)),
        request("", **{f"x{i}": many(types_pb2.DT_FLOAT, 1 << 26) for i in range(1000)}),
    ]
    context = classification_pb2.ClassificationRequest()
    context.model_spec.name = "m"
    context.model_spec.signature_name = "scores"
    examples = context.input.example_list_with_context
    examples.context.features.feature["f"].bytes_list.value.append(one_megabyte)
    for _ in range(100_000):
        examples.examples.add()
    with ModelServer(*flags) as limited:
        resource.prlimit(limited.pid, resource.RLIMIT_AS, (6 << 30, 6 << 30))
        with channel(limited) as connection, ThreadPoolExecutor(8) as threads:
            stub = Stub(connection)

            def attack(message: Any) -> str:
                call = stub.Classify if message is context else stub.Predict
                return refused(call, message)[0]

            attacks = [threads.submit(attack, message) for message in [*hostile, context] * 4]
            while not all(one.done() for one in attacks):
                reply = stub.Predict(request("doubled", x=2.0), timeout=60)
                assert reply.outputs["y"].float_val[0] == 4.0
            assert {one.result() for one in attacks} <= {
                "INVALID_ARGUMENT",
                "NOT_FOUND",
                "FAILED_PRECONDITION",
            }
            small = request("bytes", b64=many(types_pb2.DT_STRING, 3, string_val=[b"ab", b"c"]))
            assert list(stub.Predict(small, timeout=60).outputs["y"].string_val) == [b"ab", b"c", b"c"]
