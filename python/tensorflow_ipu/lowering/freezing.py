"""Turns what a traced function captured into constants."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import convert_to_constants

from tensorflow_ipu.lowering.tracing import TracedFunction


def freeze(function: TracedFunction, freeze_variables: bool = True) -> TracedFunction:
    """Turns variables and captured tensors into constants; with freeze_variables=False only the latter."""
    frozen, kept = freeze_concrete(function.concrete, freeze_variables)
    by_handle = {id(variable.handle): variable for variable in function.concrete.graph.variables}
    for tensor in kept:
        if id(tensor) not in by_handle:
            raise ValueError(
                f"`{function.name}` uses a resource that is no variable, such as a lookup table, for which "
                "the device has no kernel. Move it into the preprocessing or postprocessing step, which run "
                "on the CPU."
            )
    return replace(function, frozen=frozen, variables=tuple(by_handle[id(tensor)] for tensor in kept))


def freeze_concrete(concrete: Any, freeze_variables: bool = True) -> tuple[Any, list[tf.Tensor]]:
    """A copy of a concrete function in which captured tensors, and variables if wished, are constants.

    Returns the copy, and the captured tensors that it still needs, as further inputs behind the fed ones:
    resources
    other than variables, and handles of the variables when these are not frozen. The copy calls nothing that
    changes later.
    """
    # A table's initialiser is no part of the function; freezing would stumble over it.
    concrete.graph.clear_collection(tf.compat.v1.GraphKeys.TABLE_INITIALIZERS)
    handles = {id(variable.handle) for variable in concrete.graph.variables}
    skipped = [
        name.name.split(":")[0]
        for captured, name in concrete.graph.captures
        if captured.dtype == tf.resource and not (freeze_variables and id(captured) in handles)
    ]
    # What convert_variables_to_constants_v2 does, which does not let variables be left out.
    data = convert_to_constants._FunctionConverterDataInEager(
        func=concrete, lower_control_flow=False, aggressive_inlining=False, variable_names_denylist=skipped
    )
    graph_def, converted = convert_to_constants._replace_variables_by_constants(data)
    frozen = convert_to_constants._construct_concrete_function(concrete, graph_def, converted)
    return frozen, [
        captured for captured, name in concrete.graph.captures if name.name.split(":")[0] in set(skipped)
    ]
