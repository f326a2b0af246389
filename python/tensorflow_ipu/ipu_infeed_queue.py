"""Feeds a loop or pipeline with the elements of a dataset."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import gen_dataset_ops
from tensorflow.python.util import nest

from tensorflow_ipu.integers import is_integer

__all__ = ["IPUInfeedQueue"]


class IPUInfeedQueue:
    """A queue that hands one element of a dataset to each step of a loop or pipeline.

    Pass it to `loops.repeat`, `loops.while_loop` or `pipelining_ops.pipeline`. In a program that is
    compiled into an executable, it stands for the tensors each call of the executable brings, and only the
    dataset's element spec counts. In a program that is run in-process, `initializer` starts the dataset.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        device_ordinal: int | None = None,
        prefetch_depth: int | None = None,
        **ignored: Any,
    ) -> None:
        """
        Args:
          dataset: tf.data.Dataset of tensors of fixed shape (batches are made with `drop_remainder=True`):
            one, or any nest of tuples and dictionaries of them. The entries of a dictionary are passed by
            name, those of a tuple by position, each as it is.
          prefetch_depth: 1 to 255; accepted.
          device_ordinal and others: accepted; each queue is on its own, and there is one device.

        Raises:
          TypeError: `dataset` is no tf.data.Dataset.
          ValueError: a shape is not fixed; elements are no tensors; prefetch_depth or device_ordinal is out
            of bounds.
        """
        del ignored
        if not isinstance(dataset, (tf.data.Dataset, tf.compat.v1.data.Dataset)):
            raise TypeError(
                f"An infeed queue takes a tf.data.Dataset, but a {type(dataset).__name__} was given."
            )
        device_ordinal = 0 if device_ordinal is None else device_ordinal
        if not is_integer(device_ordinal) or device_ordinal < 0:
            raise ValueError(f"Device ordinal must be an integer >= 0, but is {device_ordinal!r}.")
        self._spec = dataset.element_spec
        self._check_spec()
        if prefetch_depth is not None and not (is_integer(prefetch_depth) and 0 < prefetch_depth < 256):
            raise ValueError(
                f"prefetch_depth must be greater than zero and less than 256, but {prefetch_depth} was given."
            )
        self._dataset = dataset
        self._device_ordinal = device_ordinal
        self._dequeued = False
        self._iterator: Any = None
        if not tf.executing_eagerly() and not tf.inside_function():
            self._iterator = tf.compat.v1.data.make_initializable_iterator(dataset)

    def _check_spec(self) -> None:
        for spec in tf.nest.flatten(self._spec):
            if not isinstance(spec, tf.TensorSpec):
                raise ValueError(
                    "Elements of an infeed queue's dataset are tensors, or a nest of tuples and dictionaries"
                    f" of tensors, but the dataset's are {self._spec}."
                )
            if not spec.shape.is_fully_defined():
                raise ValueError(
                    f"Output shape {spec.shape} is not fully defined. If using tf.data.Dataset.batch, set"
                    " `drop_remainder=True`."
                )

    @property
    def element_spec(self) -> Any:
        """The dataset's element spec."""
        return self._spec

    @property
    def number_of_tuple_elements(self) -> int:
        """How many arguments an element is."""
        return len(self._spec) if isinstance(self._spec, (dict, tuple, list)) else 1

    @property
    def dequeued(self) -> bool:
        """Whether a loop or pipeline takes its elements."""
        return self._dequeued

    @property
    def initializer(self) -> Any:
        """What starts the dataset afresh: an operation to run in TensorFlow 1; done at once in eager mode."""
        if self._iterator is not None and hasattr(self._iterator, "initializer"):
            return self._iterator.initializer
        with tf.init_scope():
            if self._iterator is None:
                self._iterator = iter(self._dataset)
            else:
                # The same iterator, because functions that were traced hold it.
                gen_dataset_ops.make_iterator(
                    self._dataset._variant_tensor, self._iterator._iterator_resource
                )
        return None

    @property
    def deleter(self) -> Any:
        """What gives the dataset's resources back: an operation in TensorFlow 1; done at once in eager
        mode."""
        if tf.executing_eagerly():
            self._iterator = None
            return None
        return tf.no_op()

    def get_next(self) -> Any:
        """Obsolete: loops and pipelines take the elements themselves."""
        raise ValueError(
            "`get_next()` is obsolete: the loop or pipeline takes the elements of an infeed queue."
        )

    # For loops and pipelines.

    def _dequeue(self) -> Any:
        """The next element, in a program that runs in-process."""
        self._dequeued = True
        if self._iterator is None:
            if not tf.executing_eagerly() and not tf.inside_function():
                raise ValueError("The infeed queue was made in eager mode and is used in a graph.")
            with tf.init_scope():
                self._iterator = iter(self._dataset)
        if hasattr(self._iterator, "initializer"):
            return self._iterator.get_next()
        return next(self._iterator)

    def _specs(self) -> list[tf.TensorSpec]:
        """The elements' tensors, flat."""
        return tf.nest.flatten(self._spec)

    def _names(self, body: Callable[..., Any], leading: int) -> list[str]:
        """What the elements' tensors are called: by key, or as the parameters of `body` behind the first
        ones."""
        if isinstance(self._spec, dict):
            return [name for key in sorted(self._spec) for name in _leaf_names(key, self._spec[key])]
        count = self.number_of_tuple_elements
        try:
            parameters = [
                parameter.name
                for parameter in inspect.signature(body).parameters.values()
                if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
            ][leading:]
        except (TypeError, ValueError):
            parameters = []
        if len(parameters) < count:
            parameters = [f"input_{position}" for position in range(count)]
        elements = self._spec if isinstance(self._spec, (tuple, list)) else [self._spec]
        return [
            name
            for parameter, element in zip(parameters, elements, strict=False)
            for name in _leaf_names(parameter, element)
        ]


def _leaf_names(name: str, element: Any) -> list[str]:
    """Names of the tensors of a part of an element: "name", or "name/key" and so on where it is a nest."""
    paths = [path for path, _ in nest.flatten_with_joined_string_paths(element)]
    return [f"{name}/{path}" if path else name for path in paths]


def call_arguments(element: Any) -> tuple[list[Any], dict[str, Any]]:
    """An element of a dataset as positional and keyword arguments of a loop's body."""
    if isinstance(element, dict):
        return [], element
    if isinstance(element, (list, tuple)):
        return list(element), {}
    return [element], {}
