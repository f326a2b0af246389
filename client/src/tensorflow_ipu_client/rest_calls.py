"""Each call as a request of the REST API, and its answer. Nothing here is sent."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorflow_ipu_client.dtypes import TYPE_OF_JSON_NAME, numpy_type
from tensorflow_ipu_client.errors import Code
from tensorflow_ipu_client.examples import Features, feature_values
from tensorflow_ipu_client.results import Class, Model, Signature, TensorSpec, VersionStatus
from tensorflow_ipu_client.tensors import as_array, as_bytes, type_name

T = TypeVar("T")


@dataclass(frozen=True)
class RestCall(Generic[T]):
    """A GET if there is no body, else a POST."""

    path: str
    body: bytes | None
    parse: Callable[[bytes], T]


def _path(model: Model, what: str) -> str:
    path = f"/v1/models/{urllib.parse.quote(model.name, safe='')}"
    if model.version is not None:
        path += f"/versions/{model.version}"
    if model.label is not None:
        path += f"/labels/{urllib.parse.quote(model.label, safe='')}"
    return path + what


def _json_string(value: Any) -> Any:
    data = as_bytes(value)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(data).decode()}


def _json_values(value: ArrayLike) -> Any:
    array = as_array(value)
    name = type_name(array)
    if name.startswith("complex"):
        raise TypeError(f"The REST API has no {name}: call over gRPC")
    if name == "string":
        encoded = np.empty(array.shape, object)
        for index, item in np.ndenumerate(array.astype(object)):
            encoded[index] = _json_string(item)
        return encoded.tolist()
    if array.dtype.kind not in "biuf":  # ml_dtypes
        array = array.astype(np.int32 if "int" in name else np.float32)
    return array.tolist()


def _binary(value: Any) -> Any:
    """Strings as bytes, wherever they are."""
    if isinstance(value, list):
        return [_binary(item) for item in value]
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return value.encode(errors="surrogateescape") if isinstance(value, str) else value


def _flat(values: Any) -> list[Any]:
    return [item for value in values for item in _flat(value)] if isinstance(values, list) else [values]


def _shape(values: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = ()
    while isinstance(values, list):
        shape += (len(values),)
        if not values:
            break
        values = values[0]
    return shape


def _array(values: Any, spec: TensorSpec) -> NDArray[Any]:
    try:
        dtype = numpy_type(spec.dtype)
    except TypeError:
        dtype = np.dtype(np.float32)
    shape, flat = _shape(values), _flat(values)
    if spec.shape is not None and len(spec.shape) > len(shape):  # JSON does not say what is inside of nothing
        shape += tuple(size or 0 for size in spec.shape[len(shape) :])
    if spec.dtype == "string":
        array: NDArray[Any] = np.empty(len(flat), object)
        array[:] = [_binary(value) for value in flat]
        return array.reshape(shape)
    return np.array(flat, dtype).reshape(shape)


def predict(
    model: Model, inputs: Mapping[str, ArrayLike], outputs: Sequence[str], signature: Signature
) -> RestCall[dict[str, NDArray[Any]]]:
    body: dict[str, Any] = {"signature_name": model.signature} if model.signature else {}
    body["inputs"] = {name: _json_values(value) for name, value in inputs.items()}

    def parse(answer: bytes) -> dict[str, NDArray[Any]]:
        # Strings of a model need not be UTF-8: what is not comes back as it was in _binary().
        values = json.loads(answer.decode(errors="surrogateescape"))["outputs"]
        if len(signature.outputs) == 1:
            values = {next(iter(signature.outputs)): values}
        return {
            name: _array(values[name], spec)
            for name, spec in signature.outputs.items()
            if not outputs or name in outputs
        }

    return RestCall(_path(model, ":predict"), json.dumps(body).encode(), parse)


def _examples(model: Model, examples: Sequence[Features], context: Features | None) -> bytes:
    def features(row: Features) -> dict[str, Any]:
        encoded: dict[str, Any] = {}
        for name, value in row.items():
            field, values = feature_values(value)
            encoded[name] = [_json_string(item) for item in values] if field == "bytes_list" else values
        return encoded

    body: dict[str, Any] = {"signature_name": model.signature} if model.signature else {}
    if context is not None:
        body["context"] = features(context)
    body["examples"] = [features(row) for row in examples]
    return json.dumps(body).encode()


def classify(
    model: Model, examples: Sequence[Features], context: Features | None
) -> RestCall[list[list[Class]]]:
    def parse(answer: bytes) -> list[list[Class]]:
        return [[Class(label, score) for label, score in row] for row in json.loads(answer)["results"]]

    return RestCall(_path(model, ":classify"), _examples(model, examples, context), parse)


def regress(
    model: Model, examples: Sequence[Features], context: Features | None
) -> RestCall[NDArray[np.float32]]:
    return RestCall(
        _path(model, ":regress"),
        _examples(model, examples, context),
        lambda answer: np.array(json.loads(answer)["results"], np.float32),
    )


def status(model: Model) -> RestCall[list[VersionStatus]]:
    def parse(answer: bytes) -> list[VersionStatus]:
        return [
            VersionStatus(
                int(one["version"]),
                one["state"],
                Code[one["status"]["error_code"]].value,
                one["status"]["error_message"],
            )
            for one in json.loads(answer)["model_version_status"]
        ]

    return RestCall(_path(model, ""), None, parse)


def _tensor_spec(info: dict[str, Any]) -> TensorSpec:
    shape: tuple[int | None, ...] | None = None
    if not info["tensor_shape"].get("unknown_rank"):
        sizes = [int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])]
        shape = tuple(None if size < 0 else size for size in sizes)
    return TensorSpec(TYPE_OF_JSON_NAME.get(info["dtype"], info["dtype"]), shape)


def metadata(model: Model) -> RestCall[dict[str, Signature]]:
    def parse(answer: bytes) -> dict[str, Signature]:
        return {
            name: Signature(
                {key: _tensor_spec(info) for key, info in one["inputs"].items()},
                {key: _tensor_spec(info) for key, info in one["outputs"].items()},
                one["method_name"],
            )
            for name, one in json.loads(answer)["metadata"]["signature_def"]["signature_def"].items()
        }

    return RestCall(_path(model, "/metadata"), None, parse)
