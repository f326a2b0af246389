"""TensorFlow's element types and numpy's."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

# tensorflow.DataType. numpy has no type of its own for those below BFLOAT16's line: ml_dtypes has.
NUMBER_OF_TYPE = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": 7,
    "complex64": 8,
    "int64": 9,
    "bool": 10,
    "qint8": 11,
    "quint8": 12,
    "qint32": 13,
    "bfloat16": 14,
    "qint16": 15,
    "quint16": 16,
    "uint16": 17,
    "complex128": 18,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
    "float8_e5m2": 24,
    "float8_e4m3fn": 25,
    "float8_e4m3fnuz": 26,
    "float8_e4m3b11fnuz": 27,
    "float8_e5m2fnuz": 28,
    "int4": 29,
    "uint4": 30,
    "int2": 31,
    "uint2": 32,
}
TYPE_OF_NUMBER = {number: name for name, number in NUMBER_OF_TYPE.items()}
# As protobuf's JSON writes them: DT_FLOAT.
TYPE_OF_JSON_NAME = {f"DT_{name.upper()}": name for name in NUMBER_OF_TYPE} | {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_HALF": "float16",
}
_STORED_AS = {"qint8": "int8", "quint8": "uint8", "qint32": "int32", "qint16": "int16", "quint16": "uint16"}
# Types whose elements are smaller than a byte: TensorFlow writes them one by one.
SUB_BYTE_TYPES = frozenset({"int4", "uint4", "int2", "uint2"})


@cache
def numpy_type(name: str) -> np.dtype[Any]:
    """numpy's type for TensorFlow's; strings are objects. TypeError where only ml_dtypes has it."""
    name = _STORED_AS.get(name, name)
    if name == "string":
        return np.dtype(object)
    try:
        return np.dtype(name)
    except TypeError:
        pass
    try:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    except (ImportError, AttributeError):
        raise TypeError(f"numpy has no type {name}: pip install ml_dtypes") from None
