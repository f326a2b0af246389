"""Runs executables from TensorFlow programs: eagerly, inside tf.function, and in TF1 graphs and sessions.

context = embedded_runtime_start("model.ipu", startup_inputs, "engine")
outputs = embedded_runtime_call([x], context)
embedded_runtime_stop(context)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from tensorflow_ipu import engines
from tensorflow_ipu._runtime import ops
from tensorflow_ipu.executable_signature import ExecutableSignature, read_signature
from tensorflow_ipu.integers import as_integer
from tensorflow_ipu.local_path import local_path
from tensorflow_ipu.program import DEFAULT_TIMEOUT_US

__all__ = [
    "RuntimeContext",
    "embedded_runtime_call",
    "embedded_runtime_start",
    "embedded_runtime_start_and_call",
    "embedded_runtime_stop",
]


class RuntimeContext:
    """A running engine, as `embedded_runtime_start` returns it."""

    def __init__(self, name: str, signature: ExecutableSignature, start_output: tf.Tensor) -> None:
        self._name = name
        self._signature = signature
        self._start_output = start_output

    def name(self) -> str:
        """The engine's name."""
        return self._name

    def signature(self) -> ExecutableSignature:
        """Names, shapes and dtypes of start-up inputs, feeds and results."""
        return self._signature

    def output_types(self) -> list[tf.DType]:
        """The dtypes of what a call returns."""
        return [spec.dtype for spec in self._signature.outfeeds]

    def start_output(self) -> tf.Tensor:
        """An int32 scalar that exists once the engine runs; every call depends on it."""
        return self._start_output


def embedded_runtime_start(
    executable_file: Any, inputs: Any, name: str, timeout: int | None = None
) -> RuntimeContext:
    """Starts an engine on an executable, or attaches to the engine of that name when it runs on the same
    executable.

    In a graph the engine starts when the returned context's `start_output()`, or a call, is run.

    Args:
      executable_file: path, as string, bytes, path object, `file://` URL or string tensor whose value is
        known.
      inputs: the start-up inputs: a list or tuple in the executable's order, or a dictionary by their names
        ("XLA_Args/<variable name>").
      name: of the engine, for calls and messages.
      timeout: microseconds without a further batch after which a dummy batch pushes real ones through a
        device that holds them back. None: 5000.

    Returns:
      RuntimeContext.

    Raises:
      TypeError: `inputs` is no list, tuple or dictionary; a dtype differs from the executable's; `name` is no
        string.
      ValueError: an input is missing, one is too many, or has another shape; `name` is empty.
      tf.errors.NotFoundError: there is no such file.
      tf.errors.InvalidArgumentError: the file is no executable, or one for other versions or another target.
      tf.errors.AlreadyExistsError: an engine of that name runs on another executable.
    """
    if not isinstance(name, str):
        raise TypeError(f"`name` must be a string, the name of an engine, but {name!r} was given.")
    if not name:
        raise ValueError("`name` must not be empty: calls and messages name the engine by it.")
    path = local_path("executable_file", executable_file)
    signature = read_signature(path)
    ordered = _in_order(inputs, signature.startup_inputs, "Embedded application runtime")
    tensors = [
        _checked_input(position, value, spec)
        for position, (value, spec) in enumerate(zip(ordered, signature.startup_inputs, strict=True))
    ]
    start = engines.start_lasting_engine if tf.executing_eagerly() else ops.application_runtime
    anchor = start(
        inputs=tensors,
        filename=path,
        engine_name=name,
        timeout_us=as_integer("timeout", timeout or DEFAULT_TIMEOUT_US, 1),
    )
    return RuntimeContext(name, signature, anchor)


def embedded_runtime_call(inputs: Any, context: RuntimeContext) -> list[tf.Tensor]:
    """Feeds one batch to a running engine and returns its results.

    Args:
      inputs: a list or tuple in the executable's order, or a dictionary by the names of its feeds.
      context: as returned by `embedded_runtime_start`.

    Returns:
      A list of tensors, of the dtypes `context.output_types()`.

    Raises:
      TypeError: `inputs` is no list, tuple or dictionary; a dtype differs from the executable's.
      ValueError: an input is missing, one is too many, or has another shape.
      tf.errors.FailedPreconditionError: the engine does not exist.
      tf.errors.InternalError, tf.errors.UnknownError: the device failed.
    """
    if not isinstance(context, RuntimeContext):
        raise TypeError(
            f"`context` must be what embedded_runtime_start() returned, but a {type(context).__name__} was "
            "given."
        )
    signature = context.signature()
    ordered = _in_order(inputs, signature.infeeds, "Embedded application call")
    tensors = [
        _checked_input(position, value, spec)
        for position, (value, spec) in enumerate(zip(ordered, signature.infeeds, strict=True))
    ]
    outputs = ops.application_call(
        infeeds=tensors,
        anchor=context.start_output(),
        outfeed_types=context.output_types(),
        engine_name=context.name(),
    )
    if not tf.executing_eagerly():
        for output, spec in zip(outputs, signature.outfeeds, strict=True):
            output.set_shape(spec.shape)
    return list(outputs)


def embedded_runtime_start_and_call(
    executable_file: Any, startup_inputs: Any, call_inputs: Any, name: str
) -> tuple[list[tf.Tensor], RuntimeContext]:
    """`embedded_runtime_start`, then `embedded_runtime_call`.

    Returns:
      The results of the call, and the context for further calls.
    """
    context = embedded_runtime_start(executable_file, startup_inputs, name)
    return embedded_runtime_call(call_inputs, context), context


def embedded_runtime_stop(context: RuntimeContext) -> None:
    """Stops the engine now. What waits in it fails with Cancelled; later calls fail until it is started
    again.

    Raises:
      tf.errors.NotFoundError: it does not run.
    """
    engines.stop_engine(context.name())


def _in_order(inputs: Any, specs: Sequence[tf.TensorSpec], who: str) -> list[Any]:
    """The inputs as a list in the executable's order."""
    if isinstance(inputs, Mapping):
        missing = [spec.name for spec in specs if spec.name not in inputs]
        if missing:
            raise ValueError(
                f"Failed to find input tensor with name '{missing[0]}' in input dictionary. It has "
                f"{', '.join(map(repr, inputs)) or 'no entries'}; expected are "
                f"{', '.join(repr(spec.name) for spec in specs)}."
            )
        return [inputs[spec.name] for spec in specs]
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(
            f"Expected the inputs to be a list. A tuple, or a dictionary by input name, is taken as well, "
            f"but a {type(inputs).__name__} was given."
        )
    if len(inputs) != len(specs):
        raise ValueError(
            f"{who} expects {len(specs)} inputs, but {len(inputs)} were provided. Expected are: "
            f"{', '.join(f'{spec.name!r} {spec.dtype.name} {spec.shape}' for spec in specs) or 'none'}."
        )
    return list(inputs)


def _checked_input(position: int, value: Any, spec: tf.TensorSpec) -> tf.Tensor:
    if isinstance(
        value, (bool, int, float, complex, list, tuple)
    ):  # Python values have no dtype of their own
        tensor = tf.convert_to_tensor(value, spec.dtype)
    else:
        tensor = tf.convert_to_tensor(value)
    if not tensor.shape.is_compatible_with(spec.shape):
        raise ValueError(
            f"Mismatched input shape at position {position} ('{spec.name}'). Expected {_dims(spec.shape)}, "
            f"but input {position} has shape {_dims(tensor.shape)}."
        )
    if tensor.dtype != spec.dtype:
        raise TypeError(
            f"Mismatched input dtype at position {position} ('{spec.name}'). Expected {spec.dtype!r}, but "
            f"input {position} has dtype {tensor.dtype!r}."
        )
    return tensor


def _dims(shape: tf.TensorShape) -> str:
    return str(shape.as_list()) if shape.rank is not None else "<unknown>"
