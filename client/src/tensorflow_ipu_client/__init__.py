"""A light client of TensorFlow Serving's APIs: arrays in, arrays out, without TensorFlow.

with Client("localhost:8500") as client:
    print(client.predict("my_model", {"x": [1.0, 2.0, 5.0, 7.0]})["output_0"])
"""

from tensorflow_ipu_client.async_client import AsyncClient
from tensorflow_ipu_client.client import Client
from tensorflow_ipu_client.errors import Code, ServingError
from tensorflow_ipu_client.results import Class, Model, Signature, Task, TensorSpec, VersionStatus
from tensorflow_ipu_client.retry import NO_RETRY, Retry
from tensorflow_ipu_client.tls import TLS

__all__ = [
    "NO_RETRY",
    "TLS",
    "AsyncClient",
    "Class",
    "Client",
    "Code",
    "Model",
    "Retry",
    "ServingError",
    "Signature",
    "Task",
    "TensorSpec",
    "VersionStatus",
]
