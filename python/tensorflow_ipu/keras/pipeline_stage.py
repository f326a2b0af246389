"""Which pipeline stage a layer call belongs to."""

from __future__ import annotations

import contextvars
from typing import Any

# The stage of the innermost PipelineStage scope of this thread; None outside of one.
_current: contextvars.ContextVar[int | None] = contextvars.ContextVar("ipu_pipeline_stage", default=None)


def current_stage() -> int | None:
    """The stage of the PipelineStage scope the caller is in."""
    return _current.get()


class PipelineStage:
    """A scope that assigns Keras layers to a pipeline stage.

        with strategy.scope():
            with keras.ipu.PipelineStage(0):
                x = keras.layers.Dense(4)(inputs)
            with keras.ipu.PipelineStage(1):
                x = keras.layers.Dense(4)(x)

    It counts where a layer is called: when a functional model is put together, and inside `call` of a
    subclassed model. A layer that is made in the scope and called outside of one belongs to the stage as
    well; where a call has a stage of its own, that one counts.
    """

    def __init__(self, stage: int) -> None:
        """`stage`: number of the stage, from 0."""
        self._stage = stage
        self._token: contextvars.Token[int | None] | None = None
        self._scope: Any = None

    def __enter__(self) -> PipelineStage:
        """
        Raises:
          ValueError: the stage is no number from 0 up.
          RuntimeError: the scope is outside of an IPU strategy's, or inside another PipelineStage.
        """
        # Here, because they import TensorFlow.
        from tensorflow_ipu import ipu_strategy
        from tensorflow_ipu.keras import layer_calls

        if not isinstance(self._stage, int) or isinstance(self._stage, bool) or self._stage < 0:
            raise ValueError(f"{self._stage!r} is not a valid pipeline stage: stages are numbered from 0.")
        if not ipu_strategy.in_ipu_strategy() and not layer_calls.inside_model():
            raise RuntimeError("PipelineStage may only be used from within an IPUStrategy context.")
        if _current.get() is not None:
            raise RuntimeError(
                f"Pipeline stages must not be nested: stage {self._stage} is inside stage {_current.get()}."
            )
        layer_calls.track()
        self._scope = layer_calls.mark_operations(self._stage)
        self._scope.__enter__()
        self._token = _current.set(self._stage)
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._token is not None
        _current.reset(self._token)
        self._scope.__exit__(*exception)


class SequentialLayerPipelineStageAssignment:
    """The pipeline stage of a layer in a Sequential model."""

    def __init__(self, layer: Any, pipeline_stage: int | None = None) -> None:
        self._layer = layer
        self.pipeline_stage = pipeline_stage

    @property
    def layer(self) -> Any:
        """The Keras layer."""
        return self._layer

    @property
    def is_nested_model(self) -> bool:
        """Always False: a nested model is assigned as a whole."""
        return False

    def __str__(self) -> str:
        return f"Layer: {self.layer.name} is assigned to pipeline stage: {self.pipeline_stage}"


class ModelLayerPipelineStageAssignment(SequentialLayerPipelineStageAssignment):
    """The pipeline stage of one call of a layer in a subclassed model."""

    def __init__(self, layer: Any, node_index: int, pipeline_stage: int | None = None) -> None:
        """`node_index`: which call of the layer, from 0; a layer that is called twice has two assignments."""
        super().__init__(layer, pipeline_stage)
        self._node_index = node_index

    @property
    def node_index(self) -> int:
        """Which call of the layer, from 0."""
        return self._node_index

    def __str__(self) -> str:
        return (
            f"Layer: {self.layer.name} (node index {self.node_index}) is assigned to pipeline stage:"
            f" {self.pipeline_stage}"
        )


class FunctionalLayerPipelineStageAssignment(ModelLayerPipelineStageAssignment):
    """The pipeline stage of one call of a layer in a functional model."""

    @property
    def inbound_layers(self) -> list[Any]:
        """The layers whose results the call takes, by which to tell one call from another."""
        node = self.layer._inbound_nodes[self.node_index]
        return [getattr(parent, "operation", None) or parent.layer for parent in node.parent_nodes]
