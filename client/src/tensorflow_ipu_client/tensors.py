"""numpy arrays as TensorFlow's tensors, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tensorflow_ipu_client import messages
from tensorflow_ipu_client.dtypes import NUMBER_OF_TYPE, SUB_BYTE_TYPES, TYPE_OF_NUMBER, numpy_type

# Where a tensor without tensor_content keeps its values.
_VALUES_OF_TYPE = {
    "float32": "float_val",
    "float64": "double_val",
    "string": "string_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "float16": "half_val",
    "bfloat16": "half_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
}


def as_array(value: ArrayLike) -> NDArray[Any]:
    """An array as it is; Python's own numbers as TensorFlow takes them: float32, and int32 where they fit."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    array = np.asarray(value)
    if array.dtype == np.float64:
        return array.astype(np.float32)
    if array.dtype == np.int64:
        limits = np.iinfo(np.int32)
        if array.size == 0 or (array.min() >= limits.min and array.max() <= limits.max):
            return array.astype(np.int32)
    return array


def type_name(array: NDArray[Any]) -> str:
    """TensorFlow's name for an array's type; TypeError where it has none."""
    if array.dtype.kind in "SUTO":
        return "string"
    name = array.dtype.name
    if name not in NUMBER_OF_TYPE:
        raise TypeError(f"An array of {array.dtype} is not a tensor: TensorFlow has no such type")
    return str(name)


def as_bytes(value: Any) -> bytes:
    """An element of an array of strings."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"Found {type(value).__name__} in an array of objects, expected str or bytes")


def to_message(value: ArrayLike) -> Any:
    array = as_array(value)
    name = type_name(array)
    message = messages.Tensor(dtype=NUMBER_OF_TYPE[name])
    message.tensor_shape.SetInParent()
    for size in array.shape:
        message.tensor_shape.dim.add().size = size
    if name == "string":
        message.string_val.extend(as_bytes(item) for item in array.astype(object).flat)
    elif name in SUB_BYTE_TYPES:
        message.int_val.extend(array.astype(np.int32).flat)
    else:
        little = (
            array.astype(array.dtype.newbyteorder("<"), copy=False) if array.dtype.byteorder == ">" else array
        )
        message.tensor_content = little.tobytes()
    return message


def from_message(message: Any) -> NDArray[Any]:
    """ValueError for what is not a tensor, TypeError for a type that cannot be had here."""
    name = TYPE_OF_NUMBER.get(message.dtype)
    if name is None:
        raise ValueError(f"A tensor of type {message.dtype} has no values that can be sent")
    shape = tuple(dim.size for dim in message.tensor_shape.dim)
    if message.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise ValueError(f"A tensor of shape {shape} is not whole")
    count = 1
    for size in shape:
        count *= size
    values = _content(message, name, count) if message.tensor_content else _values(message, name, count)
    if values.size != count:
        raise ValueError(f"A tensor of shape {shape} has {values.size} values")
    return values.reshape(shape)


def _is_widened(name: str) -> bool:
    if name != "bfloat16":
        return False
    try:
        numpy_type(name)
    except TypeError:
        return True
    return False


def _widen(bits: NDArray[np.uint16]) -> NDArray[Any]:
    """bfloat16 without ml_dtypes: every one is a float32."""
    shifted: NDArray[np.uint32] = bits.astype(np.uint32) << np.uint32(16)
    return shifted.view(np.float32)


def _content(message: Any, name: str, count: int) -> NDArray[Any]:
    widened = _is_widened(name)
    dtype = np.dtype(np.uint16) if widened else numpy_type(name)
    if name == "string" or len(message.tensor_content) != count * dtype.itemsize:
        raise ValueError(f"A tensor of {count} {name} has {len(message.tensor_content)} bytes")
    values = np.frombuffer(message.tensor_content, dtype)
    whole: NDArray[Any] = _widen(values) if widened else values.copy()
    return whole


def _values(message: Any, name: str, count: int) -> NDArray[Any]:
    values: NDArray[Any]
    if name.startswith("float8"):
        values = np.frombuffer(message.float8_val, np.uint8).view(numpy_type(name))
    else:
        field = getattr(message, _VALUES_OF_TYPE.get(name, "int_val"))
        if name == "string":
            values = np.empty(len(field), object)
            values[:] = list(field)
        elif name in ("float16", "bfloat16"):
            bits = np.array(field, np.int32).astype(np.uint16)
            values = _widen(bits) if _is_widened(name) else bits.view(numpy_type(name))
        elif name in ("complex64", "complex128"):
            part = np.float32 if name == "complex64" else np.float64
            values = np.array(field, part).view(numpy_type(name))
        else:
            values = np.array(field, np.int64 if name in SUB_BYTE_TYPES else numpy_type(name)).astype(
                numpy_type(name)
            )
    if values.size < count:
        # TensorFlow leaves out the last values where they are equal, or all where they are zero.
        if values.size == 0:
            empty: Any = b"" if name == "string" else 0
            dtype = np.float32 if _is_widened(name) else numpy_type(name)
            return np.full(count, empty, dtype)
        values = np.concatenate([values, np.repeat(values[-1:], count - values.size)])
    return values.copy() if not values.flags.writeable else values
