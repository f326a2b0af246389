"""Takes weights out of a graph while it is lowered, and puts them into its HLO.

TensorFlow keeps what it lowers, constants included, until the process ends. A graph whose weights are
parameters leaves little behind, and is lowered faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2

_MINIMUM_BYTES = 1024
# Only these: a constant of integers may be a shape, which must be known while the graph is lowered.
_TYPES = {tf.float16, tf.bfloat16, tf.float32, tf.float64}


def take_weights_out(graph_def: Any) -> dict[str, np.ndarray]:
    """Turns large floating-point constants of a GraphDef into placeholders of the same names; returns their
    values."""
    weights = {}
    for node in graph_def.node:
        if node.op != "Const" or tf.as_dtype(node.attr["dtype"].type) not in _TYPES:
            continue
        shape = tf.TensorShape(node.attr["value"].tensor.tensor_shape)
        if shape.num_elements() * tf.as_dtype(node.attr["dtype"].type).size < _MINIMUM_BYTES:
            continue
        if any(name.startswith("^") for name in node.input):
            continue
        weights[node.name] = tf.make_ndarray(node.attr["value"].tensor)
        dtype = node.attr["dtype"].type
        node.op = "Placeholder"
        node.attr.clear()
        node.attr["dtype"].type = dtype
        node.attr["shape"].shape.CopyFrom(shape.as_proto())
    return weights


def put_weights_in(module: Any, first: int, weights: Sequence[np.ndarray]) -> None:
    """Turns the last parameters of an HloModuleProto, from number `first` on, into constants."""
    entry = next(c for c in module.computations if c.id == module.entry_computation_id)
    for instruction in entry.instructions:
        if instruction.opcode == "parameter" and instruction.parameter_number >= first:
            value = weights[instruction.parameter_number - first]
            instruction.opcode = "constant"
            instruction.ClearField("parameter_number")
            instruction.ClearField("parameter_replication")
            instruction.literal.CopyFrom(_literal(value, instruction.shape))
    for shape in (entry.program_shape, module.host_program_shape):
        del shape.parameters[first:]
        del shape.parameter_names[first:]


def _literal(value: np.ndarray, shape: Any) -> Any:
    literal = xla_data_pb2.LiteralProto()
    data = np.ascontiguousarray(value).tobytes()
    if value.dtype == np.float16:
        literal.f16s = data
    elif value.dtype == tf.bfloat16.as_numpy_dtype:
        literal.bf16s = data
    else:
        # The wire format of a packed field is its bytes; Python's interface would go through every number.
        field = literal.DESCRIPTOR.fields_by_name["f32s" if value.dtype == np.float32 else "f64s"]
        literal.MergeFromString(_varint(field.number << 3 | 2) + _varint(len(data)) + data)
    literal.shape.CopyFrom(shape)
    return literal


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
