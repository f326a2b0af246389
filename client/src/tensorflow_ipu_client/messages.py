"""The classes of the messages in serving.proto.

They live in a descriptor pool of their own: the default one may hold TensorFlow's, in any version.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tensorflow_ipu_client.serving_descriptor import DESCRIPTOR_SET

_pool = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET).file:
    _pool.AddSerializedFile(_file.SerializeToString())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"tensorflow_ipu_client.{name}"))


Tensor = _message("Tensor")
Shape = _message("Shape")
Example = _message("Example")
Input = _message("Input")
ModelSpec = _message("ModelSpec")
PredictRequest = _message("PredictRequest")
PredictResponse = _message("PredictResponse")
ClassificationRequest = _message("ClassificationRequest")
ClassificationResponse = _message("ClassificationResponse")
RegressionRequest = _message("RegressionRequest")
RegressionResponse = _message("RegressionResponse")
MultiInferenceRequest = _message("MultiInferenceRequest")
MultiInferenceResponse = _message("MultiInferenceResponse")
GetModelStatusRequest = _message("GetModelStatusRequest")
GetModelStatusResponse = _message("GetModelStatusResponse")
GetModelMetadataRequest = _message("GetModelMetadataRequest")
GetModelMetadataResponse = _message("GetModelMetadataResponse")
SignatureMap = _message("SignatureMap")
