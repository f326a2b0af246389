"""The network base is linked apart from TensorFlow, which has other versions of its libraries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SERVING = Path(__file__).parent.parent / "serving"
# What each folder may include of this tree; nothing of abseil, protobuf or TensorFlow.
MAY_INCLUDE = {
    "base": {"serving/base"},
    "net": {"serving/base", "serving/net"},
    "net/http1": {"serving/base", "serving/net", "serving/net/http1"},
    "net/http2": {"serving/base", "serving/net", "serving/net/http2"},
    "grpc": {"serving/base", "serving/net", "serving/net/http2", "serving/grpc"},
}


@pytest.mark.parametrize("folder", MAY_INCLUDE)
def test_includes_go_one_way(folder: str) -> None:
    files = [path for path in (SERVING / folder).iterdir() if path.suffix in (".h", ".cc")]
    assert len(files) > 3
    for path in files:
        included = re.findall(r'^#include "(.+)/[^/"]+"', path.read_text(), re.MULTILINE)
        assert set(included) <= MAY_INCLUDE[folder], path
        outside = re.findall(r"^#include <(absl|tensorflow|google)/", path.read_text(), re.MULTILINE)
        assert outside == [], path
