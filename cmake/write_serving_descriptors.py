"""Writes the descriptors inside the tensorflow-serving-api package as one FileDescriptorSet.

  python write_serving_descriptors.py OUTPUT

The package holds its protos only as generated Python, and these hold the descriptors of everything that they import. TensorFlow
itself is not imported: its `__init__` takes seconds and starts threads, and only its generated protos are needed.
"""

import importlib
import importlib.util
import pkgutil
import sys
import types
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet


def add(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    """Adds a file after the files that it imports, which is the order protoc wants."""
    if file.name not in found:
        for dependency in file.dependencies:
            add(dependency, found)
        found[file.name] = file


def main() -> None:
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or spec.submodule_search_locations is None:
        sys.exit("no tensorflow package is installed for this Python")
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = tensorflow

    try:
        import tensorflow_serving
    except ImportError:
        sys.exit("no tensorflow-serving-api package is installed for this Python")
    found: dict[str, FileDescriptor] = {}
    for module in pkgutil.walk_packages(tensorflow_serving.__path__, "tensorflow_serving."):
        if module.name.endswith("_pb2"):
            add(importlib.import_module(module.name).DESCRIPTOR, found)

    descriptors = FileDescriptorSet()
    for file in found.values():
        file.CopyToProto(descriptors.file.add())
    Path(sys.argv[1]).write_bytes(descriptors.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
