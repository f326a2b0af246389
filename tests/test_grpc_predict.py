"""Predict over gRPC: values of every type, in every form, and requests that must be refused."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tensorflow as tf
from conformance.models import IDENTITY_TYPES, write_types
from model_server import ModelServer, channel
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

Stub = prediction_service_pb2_grpc.PredictionServiceStub


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    base = tmp_path_factory.mktemp("types")
    write_types(base / "1")
    with ModelServer("--model_name=types", f"--model_base_path={base}") as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: ModelServer) -> Iterator[Stub]:
    with channel(server) as connection:
        yield Stub(connection)


def request(signature: str, **inputs: tensor_pb2.TensorProto) -> predict_pb2.PredictRequest:
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "types"
    message.model_spec.signature_name = signature
    for name, tensor in inputs.items():
        message.inputs[name].CopyFrom(tensor)
    return message


def sample(dtype: str) -> np.ndarray:
    if dtype == "string":
        return np.array([[b"", b"a\x00b"], [b"\xff", b"long" * 1000]], object)
    if dtype == "bool":
        return np.array([[True, False], [False, True]])
    if dtype == "complex64":
        return np.array([[1 + 2j, -0.5j], [0, 3]], np.complex64)
    info = tf.as_dtype(dtype)
    if info.is_integer:
        return np.array([[info.min, info.max], [0, 1]], info.as_numpy_dtype)
    return np.array([[np.inf, -1.5], [np.nan, 0.25]], info.as_numpy_dtype)


@pytest.mark.parametrize("content", [False, True], ids=["values", "tensor_content"])
@pytest.mark.parametrize("dtype", IDENTITY_TYPES)
def test_values_come_back_as_they_were_sent(stub: Stub, dtype: str, content: bool) -> None:
    values = sample(dtype)
    if content:
        tensor = tf.make_tensor_proto(values)
    else:
        # make_tensor_proto prefers tensor_content; the eager tensor's own proto of one element does not.
        tensor = tensor_pb2.TensorProto(dtype=tf.as_dtype(dtype).as_datatype_enum)
        tensor.tensor_shape.CopyFrom(tf.TensorShape(values.shape).as_proto())
        for value in values.ravel():
            one = tf.make_tensor_proto(value, tf.as_dtype(dtype), shape=[])
            one.ClearField("tensor_shape")
            one.ClearField("dtype")
            tensor.MergeFrom(one)
    reply = stub.Predict(request(f"id_{dtype}", x=tensor), timeout=60)
    got = tf.make_ndarray(reply.outputs["y"])
    assert got.shape == values.shape and got.dtype == values.dtype
    if dtype == "bfloat16":  # whose NaNs numpy does not know
        got, values = got.astype(np.float32), values.astype(np.float32)
    np.testing.assert_array_equal(got, values)


def test_a_large_tensor_comes_back(stub: Stub) -> None:
    values = np.random.default_rng(1).standard_normal(5_000_000).astype(np.float32)
    reply = stub.Predict(request("", x=tf.make_tensor_proto(values)), timeout=120)
    np.testing.assert_array_equal(tf.make_ndarray(reply.outputs["y"]), values)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests_are_read(stub: Stub, compression: grpc.Compression) -> None:
    values = np.zeros(100_000, np.float32)
    reply = stub.Predict(request("", x=tf.make_tensor_proto(values)), timeout=60, compression=compression)
    assert tf.make_ndarray(reply.outputs["y"]).shape == (100_000,)


def hostile(dtype: int, dims: list[int], **fields: object) -> tensor_pb2.TensorProto:
    tensor = tensor_pb2.TensorProto(dtype=dtype, **fields)  # type: ignore[arg-type]
    for size in dims:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


@pytest.mark.parametrize(
    "tensor",
    [
        hostile(types_pb2.DT_FLOAT, [-1]),
        hostile(types_pb2.DT_FLOAT, [-(2**63)]),
        hostile(types_pb2.DT_FLOAT, [2**40, 2**40], float_val=[1]),
        hostile(types_pb2.DT_FLOAT, [2**40], float_val=[1]),
        hostile(types_pb2.DT_FLOAT, [2**62]),
        hostile(types_pb2.DT_FLOAT, [1] * 300, float_val=[1]),
        hostile(types_pb2.DT_FLOAT, [3], tensor_content=b"12345678"),
        hostile(types_pb2.DT_STRING, [2**40], string_val=[b"x"]),
        hostile(types_pb2.DT_STRING, [2**31], tensor_content=b"x"),
        hostile(types_pb2.DT_RESOURCE, [1]),
        hostile(types_pb2.DT_VARIANT, [1]),
        hostile(types_pb2.DT_FLOAT_REF, [1], float_val=[1]),
        hostile(types_pb2.DT_INVALID, [1]),
        hostile(types_pb2.DT_DOUBLE, [1], double_val=[1]),
    ],
    ids=lambda tensor: str(tensor).replace("\n", " ")[:60],
)
def test_impossible_tensors_are_refused(stub: Stub, tensor: tensor_pb2.TensorProto) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(request("", x=tensor), timeout=60)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details()
    # And the server is alive.
    reply = stub.Predict(request("", x=tf.make_tensor_proto(np.ones(2, np.float32))), timeout=60)
    assert list(reply.outputs["y"].float_val) == [1, 1]


def test_bytes_that_are_no_message_are_refused(server: ModelServer) -> None:
    with channel(server) as connection:
        for method in ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"):
            call = connection.unary_unary(f"/tensorflow.serving.PredictionService/{method}")
            with pytest.raises(grpc.RpcError) as error:
                call(b"\xff\xff\xff\xff", timeout=60)
            # gRPC's own word for it.
            assert error.value.code() == grpc.StatusCode.INTERNAL


def test_errors_of_the_model_reach_the_client(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stub.Predict(request("raises", x=tf.make_tensor_proto(np.array([-1.0], np.float32))), timeout=60)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "x must be positive" in error.value.details()


def test_replies_carry_tensor_content_when_asked(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.mktemp("content")
    write_types(base / "1")
    flags = ["--model_name=types", f"--model_base_path={base}", "--enable_serialization_as_tensor_content"]
    with ModelServer(*flags) as server, channel(server) as connection:
        tensor = tf.make_tensor_proto(np.ones(3, np.float32))
        reply = Stub(connection).Predict(request("", x=tensor), timeout=60)
    assert reply.outputs["y"].tensor_content == np.ones(3, np.float32).tobytes()
    assert not reply.outputs["y"].float_val
