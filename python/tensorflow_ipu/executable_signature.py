"""What an executable file says of itself: its start-up inputs, feeds and results."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tensorflow_ipu._runtime import native
from tensorflow_ipu.errors import native_error


@dataclass(frozen=True)
class ExecutableSignature:
    """Named tensors that cross the border of an executable. Shapes are static, except for the leading
    dimension of feeds and results of a program with row batching, which is None.

    startup_inputs: given once, when the engine starts. Named "XLA_Args/<variable name>".
    infeeds: given with every call.
    outfeeds: what a call returns.
    """

    startup_inputs: Sequence[tf.TensorSpec]
    infeeds: Sequence[tf.TensorSpec]
    outfeeds: Sequence[tf.TensorSpec]


def read_signature(executable_file: str | os.PathLike) -> ExecutableSignature:
    """Reads the header of an executable.

    Raises:
      tf.errors.OpError: there is no such file, or it is no executable that this version can read.
    """
    try:
        header = json.loads(native.inspect(os.fspath(executable_file)))
    except native.StatusError as error:
        raise native_error(error) from None
    any_rows = bool(header.get("dynamic_batch"))
    return ExecutableSignature(
        [_spec(tensor, False) for tensor in header.get("startup_inputs", [])],
        [_spec(tensor, any_rows) for tensor in header.get("infeeds", [])],
        [_spec(tensor, any_rows) for tensor in header.get("outfeeds", [])],
    )


def _spec(tensor: Mapping[str, Any], any_rows: bool) -> tf.TensorSpec:
    shape: list[int | None] = [int(size) for size in tensor.get("dims", [])]
    if any_rows:
        shape[0] = None
    kind = tensor["type"]
    dtype = tf.as_dtype(kind) if isinstance(kind, int) else tf.as_dtype(kind.lower())
    return tf.TensorSpec(shape, dtype, tensor.get("name", ""))
