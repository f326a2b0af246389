"""Takes what each step of a loop or pipeline gives out."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from tensorflow_ipu.integers import is_integer
from tensorflow_ipu.program.collect import current_builder

__all__ = ["IPUOutfeedMode", "IPUOutfeedQueue", "IPUOutfeedQueueIterator"]


class IPUOutfeedMode(enum.Enum):
    """What `dequeue()` gives: all elements, or only the last one."""

    ALL = "all"
    LAST = "get_last"


class IPUOutfeedQueue:
    """A queue into which each step of a loop or pipeline puts a tensor, or a tuple or dictionary of tensors.

    In a program that is compiled into an executable, what is enqueued is what each call of the executable
    returns; the keys of a dictionary are the outputs' names. In a program that is run in-process,
    `dequeue()` gives it to the host.
    """

    def __init__(
        self,
        outfeed_mode: IPUOutfeedMode | None = None,
        device_ordinal: int | None = None,
        buffer_depth: int = 1,
        **ignored: Any,
    ) -> None:
        """
        Args:
          outfeed_mode: ALL by default.
          device_ordinal, buffer_depth and others: accepted; each queue is on its own, and there is one
            device.

        Raises:
          ValueError: an argument has a wrong type or value.
        """
        del ignored
        if outfeed_mode is not None and not isinstance(outfeed_mode, IPUOutfeedMode):
            raise ValueError(
                "Expected `outfeed_mode` value to be of `ipu_outfeed_queue.IPUOutfeedMode` type, but is"
                f" {type(outfeed_mode).__name__}."
            )
        device_ordinal = 0 if device_ordinal is None else device_ordinal
        if not is_integer(device_ordinal) or device_ordinal < 0:
            raise ValueError(f"Device ordinal must be an integer >= 0, but is {device_ordinal!r}.")
        if not is_integer(buffer_depth) or buffer_depth < 1:
            raise ValueError(f"buffer_depth must be an integer greater than zero, but is {buffer_depth!r}.")
        self._mode = outfeed_mode or IPUOutfeedMode.ALL
        self._structure: Any = None
        self._queue: Any = None

    @property
    def enqueued(self) -> bool:
        """Whether a loop or pipeline puts anything into the queue."""
        return self._structure is not None

    def enqueue(self, tensors: Any) -> Any:
        """Puts a tensor, or a tuple, list or dictionary of tensors, into the queue.

        Returns:
          An operation that the loop's body has to return or depend on.

        Raises:
          ValueError: it is something else; or this is a program to be compiled and the step has enqueued
            before.
        """
        tensors = _as_tensors(tensors)
        builder = current_builder()
        if builder is not None:
            self._structure = tensors
            builder.enqueue(self, _named(tensors))
            return tf.no_op()
        flat = tf.nest.flatten(tensors)
        self._structure = tf.nest.map_structure(
            lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype), tensors
        )
        return self._host_queue([(tensor.dtype, tensor.shape) for tensor in flat]).enqueue(flat)

    def dequeue(self, wait_for_completion: bool = False) -> Any:
        """What was enqueued since the last time.

        Returns:
          The structure that was enqueued. In mode ALL each tensor has a leading dimension more, over the
          steps; in mode LAST they are those of the last step.

        Raises:
          ValueError: nothing is ever enqueued.
          tf.errors.FailedPreconditionError: in mode LAST, nothing was enqueued since the last time.
        """
        del wait_for_completion
        if self._queue is None:
            raise ValueError("Trying to dequeue an outfeed which has not been enqueued.")
        count = self._queue.size()
        if self._mode is IPUOutfeedMode.LAST:
            count = _at_least_one(count)
        flat = self._queue.dequeue_many(count)
        flat = list(flat) if isinstance(flat, (list, tuple)) else [flat]
        if self._mode is IPUOutfeedMode.LAST:
            flat = [tensor[-1] for tensor in flat]
        return tf.nest.pack_sequence_as(self._structure, flat)

    def __iter__(self) -> IPUOutfeedQueueIterator:
        """What was enqueued, step by step.

        Raises:
          RuntimeError: outside of eager execution.
        """
        return IPUOutfeedQueueIterator(self)

    @property
    def deleter(self) -> Any:
        """What gives the queue's resources back: an operation in TensorFlow 1; done at once in eager mode."""
        if tf.executing_eagerly():
            self._queue = None
            return None
        return tf.no_op()

    def _host_queue(self, kinds: list[tuple[Any, Any]]) -> Any:
        """The queue on the host; outside of any loop or function that uses it."""
        if self._queue is None:
            with tf.init_scope():
                self._queue = tf.queue.FIFOQueue(
                    2**31 - 1, [dtype for dtype, _ in kinds], [shape for _, shape in kinds]
                )
        return self._queue


class IPUOutfeedQueueIterator(Iterator[Any]):
    """The elements of an outfeed queue, one for each step. It ends when the queue is empty, and goes on when
    there is more in it."""

    def __init__(self, outfeed_queue: IPUOutfeedQueue) -> None:
        if not tf.executing_eagerly():
            raise RuntimeError(
                "An outfeed queue can only be iterated over in eager execution: use dequeue()."
            )
        self._outfeed_queue = outfeed_queue

    def __next__(self) -> Any:
        queue = self._outfeed_queue._queue
        if queue is None or int(queue.size()) == 0:
            raise StopIteration
        if self._outfeed_queue._mode is IPUOutfeedMode.LAST:
            return self._outfeed_queue.dequeue()
        return tf.nest.pack_sequence_as(self._outfeed_queue._structure, tf.nest.flatten(queue.dequeue()))


_NOTHING_YET = "Trying to get the last value of an outfeed queue before anything was put into it"


def _at_least_one(count: Any) -> Any:
    """The count; FailedPreconditionError when it is 0, at once or when the graph is run."""
    if tf.executing_eagerly():
        if int(count) == 0:
            raise tf.errors.FailedPreconditionError(None, None, f"{_NOTHING_YET}.")
        return count

    def fail() -> Any:
        # Reading a variable that does not exist is the error that is meant, and gives the variable's name.
        return tf.raw_ops.ReadVariableOp(
            resource=tf.raw_ops.VarHandleOp(dtype=count.dtype, shape=[], shared_name=_NOTHING_YET),
            dtype=count.dtype,
        )

    return tf.cond(count > 0, lambda: count, fail)


def _as_tensors(tensors: Any) -> Any:
    if isinstance(tensors, dict):
        if not all(isinstance(key, str) for key in tensors):
            raise ValueError("Expected all keys in the outfeed dictionary to be strings.")
        return {key: _as_tensor(value) for key, value in tensors.items()}
    if isinstance(tensors, (tuple, list)):
        return tuple(_as_tensor(value) for value in tensors)
    return _as_tensor(tensors)


def _as_tensor(value: Any) -> Any:
    if not tf.is_tensor(value) and not isinstance(value, tf.Variable):
        raise ValueError(
            "IPUOutfeedQueue Enqueue input needs to be either a TensorFlow tensor, a tuple of TensorFlow"
            " tensors, or a dictionary of strings to TensorFlow tensors, but it has a"
            f" {type(value).__name__}."
        )
    return tf.convert_to_tensor(value)


def _named(tensors: Any) -> dict[str, Any]:
    if isinstance(tensors, dict):
        return dict(tensors)
    flat = tensors if isinstance(tensors, tuple) else (tensors,)
    return {f"output_{position}": tensor for position, tensor in enumerate(flat)}
