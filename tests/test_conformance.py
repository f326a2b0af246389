"""Answers agree with the recorded answers of TensorFlow Serving 2.21.

The records in `conformance/` are one JSON object a line. Of a REST record `method`, `path`, `request_headers`
and `request_body` make the request, `status` and `body` (or `body_b64`) the answer; of a gRPC record `method`
and `request_b64`, and `code` and `response_b64`. `also` lists other statuses or codes that are right because
they are better. With `"compare": "status"` only the status counts. Of errors the status and that there is a
text are compared, not the wording. A record with `source` was not recorded: the source file that it names
says what TensorFlow Serving answers.
"""

from __future__ import annotations

import base64
import http.client
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from conformance.models import write_models
from google.protobuf.message import Message
from model_server import ModelServer, channel
from tensorflow.core.framework import tensor_pb2
from tensorflow.python.framework import tensor_util
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

RECORDS = Path(__file__).parent / "conformance"
RESPONSES = {
    "Predict": predict_pb2.PredictResponse,
    "Classify": classification_pb2.ClassificationResponse,
    "Regress": regression_pb2.RegressionResponse,
    "MultiInference": inference_pb2.MultiInferenceResponse,
    "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataResponse,
    "GetModelStatus": get_model_status_pb2.GetModelStatusResponse,
}


def records(name: str) -> list[Any]:
    lines = (RECORDS / name).read_text().splitlines()
    return [pytest.param(json.loads(line), id=json.loads(line)["name"]) for line in lines]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelServer]:
    folder = tmp_path_factory.mktemp("conformance")
    config = write_models(folder)
    monitoring = folder / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }\n')
    flags = [f"--model_config_file={config}", f"--monitoring_config_file={monitoring}"]
    with ModelServer(*flags) as running:
        with grpc.insecure_channel(running.target) as ready:
            grpc.channel_ready_future(ready).result(60)
        yield running


def same(got: Any, wanted: Any) -> bool:
    """Equal but for rounding of floats. Lists have an order, objects have none."""
    if isinstance(got, bool) or isinstance(wanted, bool):
        return got is wanted
    if isinstance(got, (int, float)) and isinstance(wanted, (int, float)):
        if math.isnan(got) or math.isnan(wanted):
            return math.isnan(got) and math.isnan(wanted)
        return math.isclose(got, wanted, rel_tol=1e-5, abs_tol=1e-7)
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(same(got[key], wanted[key]) for key in wanted)
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(same, got, wanted))
    return bool(got == wanted)


def plain(message: Message) -> Any:
    """A message as dicts, lists and numbers; tensors as [dtype, shape, values]."""
    if isinstance(message, tensor_pb2.TensorProto):
        array = tensor_util.MakeNdarray(message)
        if array.dtype.kind not in "biufcSO":  # bfloat16
            array = array.astype(np.float32)
        values = [repr(v) if isinstance(v, (bytes, complex)) else v for v in array.ravel().tolist()]
        return [message.dtype, list(array.shape), values]
    fields = {}
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            fields[field.name] = {
                str(key): plain(item) if isinstance(item, Message) else item for key, item in value.items()
            }
        elif isinstance(value, Message):
            fields[field.name] = plain(value)
        elif field.message_type:
            fields[field.name] = [plain(item) for item in value]
        else:
            fields[field.name] = value if isinstance(value, (int, float, str, bytes)) else list(value)
    return fields


@pytest.mark.parametrize("record", records("rest.jsonl"))
def test_rest(server: ModelServer, record: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=60)
    body = record.get("request_body")
    connection.request(
        record["method"],
        record["path"],
        None if body is None else body.encode(),
        record.get("request_headers") or {},
    )
    response = connection.getresponse()
    raw = response.read()
    connection.close()
    if response.status != record["status"]:
        assert response.status in record.get("also", []), raw
        return
    if record.get("compare") == "status":
        return
    got = json.loads(raw.decode("utf-8", "surrogateescape"))
    if record["status"] != 200:
        assert got["error"]
        return
    wanted = base64.b64decode(record["body_b64"]) if record.get("body_b64") else record["body"].encode()
    assert same(got, json.loads(wanted.decode("utf-8", "surrogateescape"))), (raw, wanted)


@pytest.mark.parametrize("record", records("grpc.jsonl"))
def test_grpc(server: ModelServer, record: dict[str, Any]) -> None:
    method = record["method"]
    service = "ModelService" if method == "GetModelStatus" else "PredictionService"
    with channel(server) as open_channel:
        call = open_channel.unary_unary(f"/tensorflow.serving.{service}/{method}")
        try:
            raw = call(base64.b64decode(record["request_b64"]), timeout=60)
        except grpc.RpcError as error:
            assert error.code().name in [record["code"], *record.get("also", [])], error.details()
            assert error.details()
            return
    assert record["code"] == "OK"
    got = RESPONSES[method].FromString(raw)
    wanted = RESPONSES[method].FromString(base64.b64decode(record["response_b64"]))
    assert same(plain(got), plain(wanted)), (got, wanted)
