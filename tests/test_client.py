"""`tensorflow_ipu_client` by itself: its messages, arrays, retries and addresses."""

from __future__ import annotations

import asyncio
import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tensorflow.core.framework import tensor_pb2
from tensorflow_ipu_client import NO_RETRY, AsyncClient, Client, Code, Model, Retry, ServingError, tensors
from tensorflow_ipu_client import messages as own
from tensorflow_ipu_client.address import parse_address
from tensorflow_ipu_client.rest_transport import seconds_of_retry_after
from tensorflow_ipu_client.retry import Attempts, RetryBudget
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

CLIENT = Path(__file__).parent.parent / "client"
BOTH = [
    (own.PredictRequest, predict_pb2.PredictRequest),
    (own.PredictResponse, predict_pb2.PredictResponse),
    (own.ClassificationRequest, classification_pb2.ClassificationRequest),
    (own.ClassificationResponse, classification_pb2.ClassificationResponse),
    (own.RegressionRequest, regression_pb2.RegressionRequest),
    (own.RegressionResponse, regression_pb2.RegressionResponse),
    (own.MultiInferenceRequest, inference_pb2.MultiInferenceRequest),
    (own.MultiInferenceResponse, inference_pb2.MultiInferenceResponse),
    (own.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
    (own.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    (own.GetModelMetadataRequest, get_model_metadata_pb2.GetModelMetadataRequest),
    (own.GetModelMetadataResponse, get_model_metadata_pb2.GetModelMetadataResponse),
    (own.SignatureMap, get_model_metadata_pb2.SignatureDefMap),
]


def python(program: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(CLIENT / "src")}
    return subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    ).stdout


def test_the_descriptor_is_that_of_the_proto() -> None:
    program = f"import sys; sys.path.insert(0, {str(CLIENT)!r}); import generate; "
    generated = python(program + "print(generate.descriptor_module(), end='')")
    assert generated == (CLIENT / "src/tensorflow_ipu_client/serving_descriptor.py").read_text()


def check_fields(mine: Descriptor, theirs: Descriptor, seen: set[str]) -> None:
    """What is written with one is read as the same with the other."""
    if mine.full_name in seen:
        return
    seen.add(mine.full_name)
    for field in mine.fields:
        other = theirs.fields_by_number.get(field.number)
        assert other is not None, field.full_name
        assert field.name == other.name
        enum_as_number = (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_ENUM)
        assert field.type == other.type or (field.type, other.type) == enum_as_number, field.full_name
        assert field.is_repeated == other.is_repeated
        if field.message_type is not None:
            check_fields(field.message_type, other.message_type, seen)


@pytest.mark.parametrize(("mine", "theirs"), BOTH)
def test_messages_have_tensorflow_servings_numbers(mine: Any, theirs: Any) -> None:
    check_fields(mine.DESCRIPTOR, theirs.DESCRIPTOR, set())


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_both_kinds_of_messages_live_in_one_process(order: tuple[int, int]) -> None:
    imports = [
        "import tensorflow_ipu_client.messages as a",
        "from tensorflow_serving.apis import predict_pb2 as b",
    ]
    lines = [imports[order[0]], imports[order[1]]]
    lines.append(
        "print(b.PredictRequest.FromString(a.PredictRequest(output_filter=['y']).SerializeToString()))"
    )
    assert python("\n".join(lines)).strip() == 'output_filter: "y"'


def test_importing_the_client_brings_no_tensorflow() -> None:
    program = """
import sys, tensorflow_ipu_client
tensorflow_ipu_client.Client("localhost:1").close()
tensorflow_ipu_client.Client("http://localhost:1").close()
heavy = {"tensorflow", "tensorflow_serving", "keras", "ml_dtypes"}
print(sorted({name.split(".")[0] for name in sys.modules} & heavy))
"""
    assert python(program).strip() == "[]"


NUMERIC = [
    "float32 float64 float16 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64 complex128",
    "bfloat16 float8_e5m2 float8_e4m3fn int4 uint4",
]


@pytest.mark.parametrize("name", " ".join(NUMERIC).split())
@pytest.mark.parametrize("shape", [(), (0,), (3, 2)])
def test_arrays_are_the_tensors_that_tensorflow_means(name: str, shape: tuple[int, ...]) -> None:
    dtype = np.dtype(name if hasattr(np, name) or name == "bool" else getattr(ml_dtypes, name))
    array = (np.arange(int(np.prod(shape))) % 2).reshape(shape).astype(dtype)
    theirs = tf.make_ndarray(tensor_pb2.TensorProto.FromString(tensors.to_message(array).SerializeToString()))
    assert theirs.dtype == array.dtype and theirs.shape == shape
    np.testing.assert_array_equal(theirs, array)
    mine = tensors.from_message(own.Tensor.FromString(tf.make_tensor_proto(array).SerializeToString()))
    assert mine.dtype == array.dtype and mine.shape == shape and mine.flags.writeable
    np.testing.assert_array_equal(mine, array)


@pytest.mark.parametrize(
    "value",
    [["a", "é"], [b"\xff", b""], np.array([["a"], ["b"]]), np.array([b"x"]), "one", np.array([], object)],
)
def test_strings_are_the_tensors_that_tensorflow_means(value: Any) -> None:
    theirs = tf.make_ndarray(tensor_pb2.TensorProto.FromString(tensors.to_message(value).SerializeToString()))
    expected = [item.encode() if isinstance(item, str) else item for item in np.asarray(value, object).flat]
    assert list(theirs.flat) == expected
    mine = tensors.from_message(
        own.Tensor.FromString(tf.make_tensor_proto(theirs, tf.string).SerializeToString())
    )
    assert mine.dtype == object and list(mine.flat) == expected and mine.shape == np.shape(value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"dtype": 1, "float_val": [2.0]}, np.full(3, 2, np.float32)),
        ({"dtype": 1}, np.zeros(3, np.float32)),
        ({"dtype": 9, "int64_val": [1, 2]}, np.array([1, 2, 2], np.int64)),
        ({"dtype": 19, "half_val": [0x3C00]}, np.ones(3, np.float16)),
        ({"dtype": 14, "half_val": [0x3F80]}, np.ones(3, ml_dtypes.bfloat16)),
        ({"dtype": 18, "dcomplex_val": [1.0, 2.0]}, np.full(3, 1 + 2j)),
        ({"dtype": 25, "float8_val": b"\x38"}, np.ones(3, ml_dtypes.float8_e4m3fn)),
        ({"dtype": 10, "bool_val": [True]}, np.ones(3, bool)),
        ({"dtype": 4, "int_val": [200]}, np.full(3, 200, np.uint8)),
        ({"dtype": 23, "uint64_val": [2**64 - 1]}, np.full(3, 2**64 - 1, np.uint64)),
        ({"dtype": 7, "string_val": [b"a"]}, np.array([b"a"] * 3, object)),
        ({"dtype": 7}, np.array([b""] * 3, object)),
    ],
)
def test_tensors_may_leave_out_equal_values(fields: dict[str, Any], expected: np.ndarray) -> None:
    message = own.Tensor(**fields)
    message.tensor_shape.dim.add().size = 3
    mine = tensors.from_message(message)
    assert mine.dtype == expected.dtype
    np.testing.assert_array_equal(mine, expected)


def test_bfloat16_is_float32_without_ml_dtypes() -> None:
    program = """
import sys; sys.modules["ml_dtypes"] = None
from tensorflow_ipu_client import messages, tensors
message = messages.Tensor(dtype=14, tensor_content=b"\\x80\\x3f\\x00\\x40")
message.tensor_shape.dim.add().size = 2
print(tensors.from_message(message).dtype, tensors.from_message(message).tolist())
message = messages.Tensor(dtype=25, tensor_content=b"a")
try: tensors.from_message(message)
except TypeError as error: print(error)
"""
    assert python(program).splitlines() == [
        "float32 [1.0, 2.0]",
        "numpy has no type float8_e4m3fn: pip install ml_dtypes",
    ]


def test_pythons_numbers_are_what_tensorflow_makes_of_them() -> None:
    for value in (
        1.5,
        3,
        2**40,
        True,
        [1, 2],
        [[1.0]],
        1j,
        np.float64(1),
        np.arange(2),
        [np.float64(1)],
        "s",
    ):
        assert tensors.to_message(value).dtype == tf.make_tensor_proto(value).dtype, value


@pytest.mark.parametrize(
    "value", [np.datetime64("2020-01-01"), [object()], np.array([1, "a"], object), [None]]
)
def test_what_is_not_a_tensor_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        tensors.to_message(value)


def test_tensors_that_are_damaged_are_value_errors() -> None:
    for fields in (
        {"dtype": 1, "tensor_content": b"abc"},
        {"dtype": 1, "float_val": [1.0, 2.0]},
        {"dtype": 20},
        {"dtype": 7, "tensor_content": b"abc"},
    ):
        with pytest.raises(ValueError):
            tensors.from_message(own.Tensor(**fields))
    open_shape = own.Tensor(dtype=1)
    open_shape.tensor_shape.dim.add().size = -1
    with pytest.raises(ValueError):
        tensors.from_message(open_shape)


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def attempts(timeout: float | None = None, budget: RetryBudget | None = None, **settings: Any) -> Attempts:
    return Attempts(Retry(**settings), budget or RetryBudget(1), timeout, Clock(), lambda: 1.0)


def unavailable(retry_after: float | None = None) -> ServingError:
    return ServingError(Code.UNAVAILABLE, "busy", retry_after)


def test_waits_grow_until_the_attempts_are_used_up() -> None:
    one = attempts(attempts=4, initial_backoff=1, multiplier=3, max_backoff=5)
    assert [one.wait_after(unavailable()) for _ in range(3)] == [1, 3, 5]
    with pytest.raises(ServingError) as failed:
        one.wait_after(unavailable())
    assert failed.value.attempts == 4


def test_the_servers_own_wait_is_kept() -> None:
    assert attempts().wait_after(unavailable(7)) == 7
    with pytest.raises(ServingError):
        attempts().wait_after(unavailable(-0.001))


def test_a_wait_beyond_the_deadline_fails_at_once() -> None:
    with pytest.raises(ServingError):
        attempts(timeout=6).wait_after(unavailable(7))
    assert attempts(timeout=8).wait_after(unavailable(7)) == 7


def test_only_what_may_pass_is_tried_again() -> None:
    for code in Code:
        error = ServingError(code, "")
        if code in (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED):
            attempts().wait_after(error)
        else:
            with pytest.raises(ServingError):
                attempts().wait_after(error)


def test_the_budget_bounds_retries_of_all_calls() -> None:
    budget = RetryBudget(0.5)
    made = 0
    for _ in range(100):
        try:
            attempts(budget=budget).wait_after(unavailable())
            made += 1
        except ServingError:
            pass
    # Ten that were saved up, which the first call cannot add to, and one for every two calls.
    assert made == 10 + 99 // 2


@pytest.mark.parametrize(
    ("text", "is_rest", "target", "host", "port", "tls"),
    [
        ("localhost:8500", False, "localhost:8500", "", 0, False),
        ("unix:/run/socket", False, "unix:/run/socket", "", 0, False),
        ("grpcs://h:1", False, "h:1", "", 0, True),
        ("http://h:8501", True, "", "h", 8501, False),
        ("http://[::1]:8501/", True, "", "::1", 8501, False),
        ("https://h", True, "", "h", 443, True),
    ],
)
def test_addresses(text: str, is_rest: bool, target: str, host: str, port: int, tls: bool) -> None:
    address = parse_address(text, None)
    assert (address.is_rest, address.target, address.host, address.port) == (is_rest, target, host, port)
    assert (address.tls is not None) == tls


@pytest.mark.parametrize("text", ["", "ftp://h:1", "http://", "http://h:1/v1/models", "grpc://"])
def test_what_is_not_an_address_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        Client(text)


def test_tls_is_asked_for_by_the_scheme_over_rest() -> None:
    with pytest.raises(ValueError, match="expected https"):
        Client("http://localhost:1", tls=True)


def test_retry_after_is_seconds_or_a_date() -> None:
    assert seconds_of_retry_after(None) is None
    assert seconds_of_retry_after("3") == 3
    assert seconds_of_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert seconds_of_retry_after("soon") is None


def test_a_model_has_a_version_or_a_label() -> None:
    with pytest.raises(ValueError, match="expected one of them"):
        Model("m", version=1, label="stable")


Answer = tuple[int, dict[str, str], bytes]
STATUS = b'{"model_version_status": []}'


@contextmanager
def http_server(answers: list[Answer]) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Gives these answers one after the other. Yields its address and the requests' headers."""
    requests: list[dict[str, str]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, headers, body = answers[len(requests)]
            requests.append({name.lower(): value for name, value in self.headers.items()})
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", requests
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def grpc_server(answer: Callable[[grpc.ServicerContext], bytes]) -> Iterator[str]:
    class Handler(grpc.GenericRpcHandler):
        def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(lambda request, context: answer(context))

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=(Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def status_of(address: str, is_async: bool, **settings: Any) -> Any:
    """GetModelStatus with the client or the asynchronous one."""
    if not is_async:
        with Client(address, **settings) as client:
            return client.status("m")

    async def call() -> Any:
        async with AsyncClient(address, **settings) as client:
            return await client.status("m")

    return asyncio.run(call())


IN_BOTH_CLIENTS = pytest.mark.parametrize("is_async", [False, True])
QUICK = Retry(initial_backoff=0.001)


@IN_BOTH_CLIENTS
def test_rest_tries_again_when_the_server_asks_for_it(is_async: bool) -> None:
    busy: Answer = (503, {"Retry-After": "0"}, b'{"error": "full"}')
    with http_server([busy, busy, (200, {}, STATUS)]) as (address, requests):
        assert status_of(address, is_async, retry=QUICK, headers={"X-Key": "k"}) == []
        assert [one["x-key"] for one in requests] == ["k"] * 3
    with http_server([busy]) as (address, requests), pytest.raises(ServingError) as failed:
        status_of(address, is_async, retry=NO_RETRY)
    assert (failed.value.code, failed.value.message, failed.value.retry_after) == (
        Code.UNAVAILABLE,
        "full",
        0,
    )


@IN_BOTH_CLIENTS
def test_rest_gives_up_at_once_when_it_would_have_to_wait_too_long(is_async: bool) -> None:
    with http_server([(503, {"Retry-After": "3600"}, b"later")]) as (address, requests):
        with pytest.raises(ServingError) as failed:
            status_of(address, is_async, timeout=60)
        assert failed.value.message == "later" and len(requests) == 1


@IN_BOTH_CLIENTS
def test_rest_does_not_repeat_what_is_wrong(is_async: bool) -> None:
    with http_server([(404, {}, b'{"error": "no such model"}')]) as (address, _):
        with pytest.raises(ServingError, match="NOT_FOUND: no such model"):
            status_of(address, is_async)


def test_rest_connects_again_when_the_server_closed_the_connection() -> None:
    answers: list[Answer] = [(200, {"Connection": "close"}, STATUS), (200, {}, STATUS), (200, {}, STATUS)]
    with http_server(answers) as (address, requests), Client(address, retry=NO_RETRY) as client:
        for _ in answers:
            assert client.status("m") == []
        assert len(requests) == 3


@IN_BOTH_CLIENTS
def test_grpc_tries_again_when_the_server_is_busy(is_async: bool) -> None:
    calls: list[Any] = []

    def answer(context: grpc.ServicerContext) -> bytes:
        calls.append(dict(context.invocation_metadata()))
        if len(calls) < 3:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return b""

    with grpc_server(answer) as address:
        assert status_of(address, is_async, retry=QUICK, headers={"X-Key": "k"}) == []
    assert [one["x-key"] for one in calls] == ["k"] * 3


@IN_BOTH_CLIENTS
@pytest.mark.parametrize(
    ("code", "trailers"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, ()),
        (grpc.StatusCode.UNAVAILABLE, (("grpc-retry-pushback-ms", "-1"),)),
        (grpc.StatusCode.UNAVAILABLE, (("retry-after", "3600"),)),
    ],
)
def test_grpc_does_not_repeat_what_it_should_not(
    is_async: bool, code: grpc.StatusCode, trailers: Any
) -> None:
    calls: list[None] = []

    def answer(context: grpc.ServicerContext) -> bytes:
        calls.append(None)
        context.set_trailing_metadata(trailers)
        context.abort(code, "no")
        raise AssertionError

    with grpc_server(answer) as address, pytest.raises(ServingError) as failed:
        status_of(address, is_async, retry=QUICK, timeout=60)
    assert failed.value.code.name == code.name and failed.value.attempts == len(calls) == 1


@contextmanager
def silent_server() -> Iterator[tuple[str, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}", listener


@IN_BOTH_CLIENTS
@pytest.mark.parametrize("scheme", ["grpc://", "http://"])
def test_a_call_ends_with_its_deadline(is_async: bool, scheme: str) -> None:
    with silent_server() as (address, _), pytest.raises(ServingError) as failed:
        status_of(scheme + address, is_async, timeout=0.2, retry=NO_RETRY)
    # Over gRPC the connection itself may be what was not ready in time.
    assert failed.value.code in (Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE)


@IN_BOTH_CLIENTS
@pytest.mark.parametrize("scheme", ["grpc://", "http://"])
def test_nobody_listens(is_async: bool, scheme: str) -> None:
    with silent_server() as (address, _):
        pass
    with pytest.raises(ServingError) as failed:
        status_of(scheme + address, is_async, retry=QUICK)
    assert failed.value.code == Code.UNAVAILABLE and failed.value.attempts == 4


def test_a_cancelled_call_over_rest_closes_its_connection() -> None:
    with silent_server() as (address, listener):

        async def cancel() -> socket.socket:
            async with AsyncClient(f"http://{address}") as client:
                running = asyncio.ensure_future(client.status("m"))
                loop = asyncio.get_running_loop()
                connection, _ = await loop.run_in_executor(None, listener.accept)
                assert (await loop.run_in_executor(None, connection.recv, 4)) == b"GET "
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            return connection

        with asyncio.run(cancel()) as connection:
            while connection.recv(4096):
                pass
