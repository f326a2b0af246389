"""No flag of the server, and no field of its text files, is left without a test that names it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import Descriptor
from model_server import server_binary
from tensorflow_serving.config import model_server_config_pb2

TESTS = Path(__file__).parent
CONFIG_PROTO = TESTS.parent / "serving" / "config.proto"
# What TensorFlow Serving has given up for model_platform, and what is refused (request_log_test.cc).
NOT_SERVED = {"model_type", "per_task_sampling_configs"}


def sources_of_tests() -> str:
    return "".join(path.read_text() for path in TESTS.glob("*.py") if path != Path(__file__))


def fields(message: Descriptor) -> Iterator[str]:
    for field in message.fields:
        if field.name in NOT_SERVED:
            continue
        yield field.name
        inner = field.message_type
        if inner is not None and inner.full_name.startswith("tensorflow.serving.") and inner != message:
            yield from fields(inner)


def test_each_flag_is_named_in_a_test() -> None:
    listed = subprocess.run([server_binary(), "--help"], capture_output=True, text=True, check=True).stdout
    flags = re.findall(r"^  --(\w+)=", listed, re.MULTILINE)
    assert len(flags) > 60
    sources = sources_of_tests()
    assert [flag for flag in flags if not re.search(rf"\b(no)?{flag}\b", sources)] == []


def test_each_field_of_a_config_is_named_in_a_test() -> None:
    names = {*fields(model_server_config_pb2.ModelServerConfig.DESCRIPTOR)}
    names |= set(re.findall(r"^  [\w. ]+ (\w+) = \d+;", CONFIG_PROTO.read_text(), re.MULTILINE))
    assert {"prometheus_config", "version_labels", "max_enqueued_batches", "client_verify"} <= names
    sources = sources_of_tests()
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", sources)] == []
