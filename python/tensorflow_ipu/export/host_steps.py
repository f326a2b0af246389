"""Pre- and postprocessing: functions that run on the CPU, in the graph of the exported SavedModel."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from tensorflow.python.trackable.resource import CapturableResource

from tensorflow_ipu.lowering.freezing import freeze_concrete
from tensorflow_ipu.lowering.tracing import concrete_function


@dataclass(frozen=True)
class HostStep:
    """A traced CPU function that nothing outside can change any more: its variables are constants.

    structure: the nest of specs that the function returns; `results` are its leaves.
    resources: lookup tables and the like that it uses, for the SavedModel to keep.
    """

    name: str
    parameters: Sequence[tf.TensorSpec]
    results: Sequence[tf.TensorSpec]
    structure: Any
    _frozen: Any
    _handles: Sequence[tf.Tensor]
    resources: Sequence[CapturableResource]

    def __call__(self, inputs: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        outputs = self._frozen(*inputs, *self._handles)
        # What is known of the shapes gets lost in freezing.
        return [
            tf.ensure_shape(output, spec.shape) for output, spec in zip(outputs, self.results, strict=True)
        ]

    def structured(self, outputs: Sequence[tf.Tensor]) -> Any:
        """The outputs of a call as the function itself returns them."""
        return tf.nest.pack_sequence_as(self.structure, list(outputs))


def host_step(function: Callable, name: str, signature: Sequence[tf.TensorSpec]) -> HostStep:
    """Traces and freezes a function for the CPU.

    Raises:
      ValueError: it returns nothing; it uses a resource that cannot be saved.
      TypeError: it returns something that is no tensor.
    """
    concrete = concrete_function(function, signature, name)
    frozen, handles = freeze_concrete(concrete)
    results = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in concrete.outputs]
    structure = tf.nest.pack_sequence_as(concrete.structured_outputs, results)
    return HostStep(name, signature, results, structure, frozen, handles, _resources_of(handles, name))


def _resources_of(handles: Sequence[tf.Tensor], name: str) -> list[CapturableResource]:
    """The objects behind resource handles. A graph knows the handle only, and a SavedModel needs the
    object."""
    wanted = {id(handle) for handle in handles}
    found = {}
    if wanted:
        for candidate in gc.get_objects():
            if issubclass(type(candidate), CapturableResource):
                handle = getattr(candidate, "_resource_handle", None)
                if id(handle) in wanted:
                    found[id(handle)] = candidate
    missing = [handle for handle in handles if id(handle) not in found]
    if missing:
        raise ValueError(
            f"`{name}` uses a resource that cannot be saved with the model: {missing[0]}. Lookup tables and "
            "variables can be."
        )
    return list(found.values())
