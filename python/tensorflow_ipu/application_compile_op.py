"""Compiles a program into an executable file, without exporting a model."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tensorflow_ipu.config.targets import resolve_target
from tensorflow_ipu.local_path import local_path
from tensorflow_ipu.program.collect import MainProgram, TracedStage, collect, inlined
from tensorflow_ipu.program.traced_program import (
    StartupLeaf,
    compile_traced,
    program_leaves,
    variable_input_name,
)

__all__ = ["experimental_application_compile_op"]


def experimental_application_compile_op(
    func: Callable[..., Any],
    inputs: Sequence[Any] | None = None,
    output_path: str | None = None,
    freeze_variables: bool = False,
    name: str | None = None,
    *,
    target: str = "ipu",
    device_plugin: str | None = None,
) -> tf.Tensor:
    """Compiles the program that `func` builds, for the first device of the IPU configuration in force.

    The program's main loop or pipeline is the one that takes an infeed queue, or whose steps put something
    into an
    outfeed queue: each call of the executable is one step of it, which takes the infeed's tensors and
    returns the outfeed's. A function without one is a program of one step, which returns what the function
    returns.

    Args:
      func: builds the program with `loops`, `pipelining_ops` and queues; it is called with `inputs`.
      inputs: tensors, which become start-up inputs "XLA_Args/<parameter>"; constants become part of the
        program.
      output_path: of the executable, which may be a `file://` URL; a new temporary file by default.
      freeze_variables: variables become part of the program, with the values they have when it is compiled.
        Else they become start-up inputs, "XLA_Args/<variable name>", which are given when an engine starts.
      name: of the program.
      target, device_plugin: see serving.export_single_step().

    Returns:
      A string tensor, the path of the executable. In TensorFlow 1 the program is compiled when it is
      evaluated.

    Raises:
      ValueError: the program has no results; two main loops; an operation has no kernel for the device, or
        a shape is dynamic.
      tf.errors.ResourceExhaustedError: the program is larger than the memory of an IPU.
      (In TensorFlow 1, what compiling raises is raised as tf.errors.OpError when the tensor is evaluated.)
    """
    if not callable(func):
        raise TypeError(f"`func` must be a function that builds a program, not a {type(func).__name__}.")
    pjrt = resolve_target(target, device_plugin)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"`name` must be a string, but a {type(name).__name__} was given.")
    if isinstance(inputs, dict):
        raise TypeError("`inputs` must be a list of tensors, one for each parameter, but a dict was given.")
    name = name or "application_compile"
    if output_path is None:
        handle, output_path = tempfile.mkstemp(prefix=name, suffix=".poplar_exec")
        os.close(handle)
    path = local_path("output_path", output_path)
    given = list(inputs) if isinstance(inputs, (list, tuple)) else ([] if inputs is None else [inputs])
    tensors = [tf.convert_to_tensor(value) for value in given]
    main = _trace(func, tensors, name)

    named = {
        id(tensor): f"XLA_Args/{parameter}"
        for tensor, value, parameter in zip(tensors, given, _parameters(func, len(tensors)), strict=True)
        if tf.is_tensor(value) and (tf.executing_eagerly() or not _is_constant(tensor))
    }
    leaves = program_leaves(main)
    startup = [
        StartupLeaf(leaf_name, leaf)
        for leaf in leaves
        if (leaf_name := _startup_name(leaf, named, freeze_variables)) is not None
    ]
    started = {id(leaf.tensor) for leaf in startup}
    constant = [leaf for leaf in leaves if id(leaf) not in started]

    def compile_now(*values: np.ndarray) -> bytes:
        constants = {id(leaf): value for leaf, value in zip(constant, values, strict=True)}
        compile_traced(main, name, path, constants, startup, freeze_variables, pjrt)
        return path.encode()

    if tf.executing_eagerly():
        return tf.constant(compile_now(*(leaf.numpy() for leaf in constant)))
    compiled = tf.numpy_function(compile_now, constant, tf.string, stateful=True, name=name)
    compiled.set_shape([])
    return compiled


def _trace(func: Callable[..., Any], tensors: Sequence[tf.Tensor], name: str) -> MainProgram:
    with collect(name) as builder:
        func = inlined(func)
        if not tf.executing_eagerly() and not tf.compat.v1.get_variable_scope().use_resource:
            with tf.compat.v1.variable_scope(tf.compat.v1.get_variable_scope(), use_resource=True):
                returned = func(*tensors)
        else:
            returned = func(*tensors)
        if builder.main is not None:
            return builder.main
        flat = [
            item for item in tf.nest.flatten(returned) if tf.is_tensor(item) or isinstance(item, tf.Variable)
        ]
        results = [tf.convert_to_tensor(item) for item in flat]
        results = [item if item.graph is builder.graph else tf.identity(item) for item in results]
    if not results:
        raise ValueError(
            f"The program '{name}' has no results: it has no loop or pipeline that puts something into an"
            " outfeed queue, and its function returns no tensor."
        )
    return MainProgram(
        iterations=1,
        stages=[TracedStage("step", builder.graph, [], results)],
        infeed_names=[],
        carried=[],
        outfeed_names=[f"output_{position}" for position in range(len(results))],
    )


def _parameters(func: Callable[..., Any], count: int) -> list[str]:
    """Names of the function's first parameters."""
    try:
        names = [
            parameter.name
            for parameter in inspect.signature(func).parameters.values()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    return [names[position] if position < len(names) else f"input_{position}" for position in range(count)]


def _startup_name(leaf: Any, named: dict[int, str], freeze_variables: bool) -> str | None:
    """The start-up input that a tensor outside of the program becomes; None when it becomes part of the
    program."""
    if id(leaf) in named:
        return named[id(leaf)]
    if _is_constant(leaf):
        return None
    variable = _variable_name(leaf)
    if variable is not None:
        return None if freeze_variables else variable_input_name(variable)
    return f"XLA_Args/{leaf.op.name}"


def _is_constant(tensor: Any) -> bool:
    """Eager tensors are, unless they are the program's inputs."""
    return isinstance(tensor, tf.__internal__.EagerTensor) or tensor.op.type == "Const"


def _variable_name(tensor: Any) -> str | None:
    """Of which variable a tensor of a session's graph is the value."""
    operation = tensor.op
    while operation.type in ("Identity", "ReadVariableOp") and operation.inputs:
        operation = operation.inputs[0].op
    return operation.name if operation.type in ("VarHandleOp", "VariableV2", "Variable") else None
