"""A SavedModel around an executable: the file as an asset, and a graph that starts it and calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tensorflow_ipu._runtime import ops
from tensorflow_ipu.export.host_steps import HostStep

EXECUTABLE_NAME = "executable.ipu"


@dataclass(frozen=True)
class ServedProgram:
    """What the graph around an executable has to know.

    engine_name: unique for the executable's contents, so that two versions of a model never meet in one
      engine.
    inputs: of the first step, pre-processing or device; named. The leading dimension is None with row
      batching.
    results: of the device.
    output_names: of the last step.
    """

    engine_name: str
    timeout_us: int
    inputs: Sequence[tf.TensorSpec]
    results: Sequence[tf.TensorSpec]
    output_names: Sequence[str]
    preprocessing: HostStep | None = None
    postprocessing: HostStep | None = None

    def run(self, inputs: Sequence[tf.Tensor], anchor: tf.Tensor) -> list[tf.Tensor]:
        """Adds all steps to the graph. `anchor` is the output of an ApplicationRuntime."""
        feeds = self.preprocessing(inputs) if self.preprocessing else list(inputs)
        outputs = ops.application_call(
            infeeds=feeds,
            anchor=anchor,
            outfeed_types=[result.dtype for result in self.results],
            engine_name=self.engine_name,
        )
        for output, result in zip(outputs, self.results, strict=True):
            output.set_shape(result.shape)
        return self.postprocessing(outputs) if self.postprocessing else list(outputs)


def start_engine(program: ServedProgram, executable: tf.Tensor) -> tf.Tensor:
    """Adds the op that starts the engine, or finds it running, and returns its anchor."""
    return ops.application_runtime(
        inputs=[], filename=executable, engine_name=program.engine_name, timeout_us=program.timeout_us
    )


class _Engine(tf.saved_model.experimental.TrackableResource):
    """Starts the engine when the SavedModel is loaded, so that a bad executable fails the load, not the first
    call."""

    def __init__(self, program: ServedProgram, executable: tf.saved_model.Asset) -> None:
        super().__init__()
        self._program = program
        self._executable = executable

    def _create_resource(self) -> tf.Tensor:
        # The engine has no handle of its own; a resource must have one.
        return tf.raw_ops.VarHandleOp(dtype=tf.int32, shape=[], shared_name=self._program.engine_name)

    def _initialize(self) -> None:
        start_engine(self._program, self._executable.asset_path)


def write_saved_model(program: ServedProgram, executable_path: str, directory: str) -> None:
    """Writes the SavedModel with the signature "serving_default" into a new folder.

    Args:
      executable_path: copied into the SavedModel's assets under its own file name.
    """
    module = tf.Module()
    module.executable = tf.saved_model.Asset(executable_path)
    module.engine = _Engine(program, module.executable)
    module.resources = [
        resource
        for step in (program.preprocessing, program.postprocessing)
        if step is not None
        for resource in step.resources
    ]

    @tf.function(input_signature=list(program.inputs), autograph=False)
    def serve(*inputs: tf.Tensor) -> dict[str, Any]:
        anchor = start_engine(program, module.executable.asset_path)
        return dict(zip(program.output_names, program.run(inputs, anchor), strict=True))

    tf.saved_model.save(module, directory, signatures={"serving_default": serve.get_concrete_function()})
