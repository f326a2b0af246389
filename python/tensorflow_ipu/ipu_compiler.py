"""Runs a program in this process, with the feeds of its queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

__all__ = ["compile"]


def compile(computation: Callable[..., Any], inputs: Sequence[Any] | None = None) -> Any:
    """Builds `computation` so that it can be run here: with TensorFlow's own operations, on the host.

    Loops and pipelines inside take elements of the datasets of their infeed queues, and what they put into
    outfeed queues can be dequeued. What comes out can be compared with an executable that
    application_compile_op made of the same function.

    Args:
      computation: takes a tensor for each of `inputs`; returns tensors, then operations, which are run
        whenever one of the tensors is.
      inputs: what is passed, or None.

    Returns:
      The tensors as a list; an operation that runs it all when there are none (in eager mode None, as it
      has run).

    Raises:
      TypeError: `computation` is no function; `inputs` is no list.
      ValueError: operations come ahead of tensors.
    """
    if not callable(computation):
        raise TypeError(f"`computation` must be a function, but a {type(computation).__name__} was given.")
    if inputs is not None and not isinstance(inputs, (list, tuple)):
        raise TypeError(f"`inputs` must be a list, but a {type(inputs).__name__} was given.")
    arguments = [tf.nest.map_structure(tf.convert_to_tensor, value) for value in inputs or []]
    returned = computation(*arguments)
    items = list(returned) if isinstance(returned, (list, tuple)) else [returned]
    items = [item for item in items if item is not None]
    operations = [item for item in items if isinstance(item, tf.Operation)]
    tensors = [item for item in items if not isinstance(item, tf.Operation)]
    if any(isinstance(item, tf.Operation) for item in items[: len(tensors)]):
        raise ValueError(
            "`computation` must return zero or more tensors followed by zero or more operations."
        )
    if tf.executing_eagerly():
        return tensors or None
    with tf.control_dependencies(operations):
        if not tensors:
            return tf.no_op()
        return [tf.nest.map_structure(tf.identity, tensor) for tensor in tensors]
