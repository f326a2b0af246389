"""Each call as bytes of a gRPC method, and its answer. Nothing here is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorflow_ipu_client import messages, tensors
from tensorflow_ipu_client.dtypes import TYPE_OF_NUMBER
from tensorflow_ipu_client.examples import Features, to_input
from tensorflow_ipu_client.results import Class, Model, Signature, Task, TensorSpec, VersionStatus

T = TypeVar("T")
_PREDICTION = "/tensorflow.serving.PredictionService"
_MODEL = "/tensorflow.serving.ModelService"
_METHOD_NAMES = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}
_STATES = {10: "START", 20: "LOADING", 30: "AVAILABLE", 40: "UNLOADING", 50: "END"}


@dataclass(frozen=True)
class GrpcCall(Generic[T]):
    method: str
    request: bytes
    parse: Callable[[bytes], T]


def _spec(model: Model) -> Any:
    spec = messages.ModelSpec(name=model.name, signature_name=model.signature)
    if model.version is not None:
        spec.version.value = model.version
    if model.label is not None:
        spec.version_label = model.label
    return spec


def predict(
    model: Model, inputs: Mapping[str, ArrayLike], outputs: Sequence[str]
) -> GrpcCall[dict[str, NDArray[Any]]]:
    request = messages.PredictRequest(model_spec=_spec(model), output_filter=outputs)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tensors.to_message(value))

    def parse(answer: bytes) -> dict[str, NDArray[Any]]:
        response = messages.PredictResponse.FromString(answer)
        return {name: tensors.from_message(tensor) for name, tensor in response.outputs.items()}

    return GrpcCall(f"{_PREDICTION}/Predict", request.SerializeToString(), parse)


def _classes(result: Any) -> list[list[Class]]:
    return [[Class(one.label, one.score) for one in row.classes] for row in result.classifications]


def _values(result: Any) -> NDArray[np.float32]:
    return np.array([one.value for one in result.regressions], np.float32)


def classify(
    model: Model, examples: Sequence[Features], context: Features | None
) -> GrpcCall[list[list[Class]]]:
    request = messages.ClassificationRequest(model_spec=_spec(model), input=to_input(examples, context))
    return GrpcCall(
        f"{_PREDICTION}/Classify",
        request.SerializeToString(),
        lambda answer: _classes(messages.ClassificationResponse.FromString(answer).result),
    )


def regress(
    model: Model, examples: Sequence[Features], context: Features | None
) -> GrpcCall[NDArray[np.float32]]:
    request = messages.RegressionRequest(model_spec=_spec(model), input=to_input(examples, context))
    return GrpcCall(
        f"{_PREDICTION}/Regress",
        request.SerializeToString(),
        lambda answer: _values(messages.RegressionResponse.FromString(answer).result),
    )


def multi_inference(
    tasks: Sequence[Task], examples: Sequence[Features], context: Features | None
) -> GrpcCall[list[list[list[Class]] | NDArray[np.float32]]]:
    request = messages.MultiInferenceRequest(input=to_input(examples, context))
    for task in tasks:
        request.tasks.add(
            model_spec=_spec(Model(task.model, signature=task.signature)),
            method_name=_METHOD_NAMES[task.method],
        )

    def parse(answer: bytes) -> list[list[list[Class]] | NDArray[np.float32]]:
        results = messages.MultiInferenceResponse.FromString(answer).results
        return [
            _classes(one.classification_result)
            if one.WhichOneof("result") == "classification_result"
            else _values(one.regression_result)
            for one in results
        ]

    return GrpcCall(f"{_PREDICTION}/MultiInference", request.SerializeToString(), parse)


def status(model: Model) -> GrpcCall[list[VersionStatus]]:
    def parse(answer: bytes) -> list[VersionStatus]:
        response = messages.GetModelStatusResponse.FromString(answer)
        return [
            VersionStatus(
                one.version,
                _STATES.get(one.state, "UNKNOWN"),
                one.status.error_code,
                one.status.error_message,
            )
            for one in response.model_version_status
        ]

    request = messages.GetModelStatusRequest(model_spec=_spec(model))
    return GrpcCall(f"{_MODEL}/GetModelStatus", request.SerializeToString(), parse)


def _tensor_spec(info: Any) -> TensorSpec:
    shape = None
    if not info.tensor_shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)
    return TensorSpec(TYPE_OF_NUMBER.get(info.dtype, f"type {info.dtype}"), shape)


def metadata(model: Model) -> GrpcCall[dict[str, Signature]]:
    def parse(answer: bytes) -> dict[str, Signature]:
        response = messages.GetModelMetadataResponse.FromString(answer)
        signatures = messages.SignatureMap.FromString(response.metadata["signature_def"].value)
        return {
            name: Signature(
                {key: _tensor_spec(info) for key, info in one.inputs.items()},
                {key: _tensor_spec(info) for key, info in one.outputs.items()},
                one.method_name,
            )
            for name, one in signatures.signature_def.items()
        }

    request = messages.GetModelMetadataRequest(model_spec=_spec(model), metadata_field=["signature_def"])
    return GrpcCall(f"{_PREDICTION}/GetModelMetadata", request.SerializeToString(), parse)
