"""The pipeline stage of a layer call, as `get_` and `set_pipeline_stage_assignment()` give and take it.

A model that is a layer of another model has an assignment that holds those of its own layers, for each call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class SequentialLayerPipelineStageAssignment:
    """The pipeline stage of a layer in a Sequential model."""

    is_nested_model = False

    def __init__(self, layer: Any, pipeline_stage: int | None = None) -> None:
        self._layer = layer
        self.pipeline_stage = pipeline_stage

    @property
    def layer(self) -> Any:
        """The Keras layer."""
        return self._layer

    def __str__(self) -> str:
        return f"Layer: {self.layer.name} is assigned to pipeline stage: {self.pipeline_stage}"


class ModelLayerPipelineStageAssignment:
    """The pipeline stage of one call of a layer in a subclassed model."""

    is_nested_model = False

    def __init__(self, layer: Any, node_index: int, pipeline_stage: int | None = None) -> None:
        """`node_index`: which call of the layer, from 0; a layer that is called twice has two assignments."""
        self._layer = layer
        self._node_index = node_index
        self.pipeline_stage = pipeline_stage
        self._inbound_layers: list[Any] | None = None

    @property
    def layer(self) -> Any:
        """The Keras layer."""
        return self._layer

    @property
    def node_index(self) -> int:
        """Which call of the layer, from 0."""
        return self._node_index

    @property
    def inbound_layers(self) -> list[Any]:
        """The layers whose results the call takes, by which to tell one call from another."""
        return _inbound_layers(self._inbound_layers, self.layer, self.node_index)

    def __str__(self) -> str:
        return (
            f"Layer: {self.layer.name} (node index {self.node_index}) is assigned to pipeline stage: "
            f"{self.pipeline_stage}"
        )


class FunctionalLayerPipelineStageAssignment(ModelLayerPipelineStageAssignment):
    """The pipeline stage of one call of a layer in a functional model."""


class _NestedModelAssignment:
    """The pipeline stages of the layers of a model that is a layer of another one."""

    is_nested_model = True

    def __init__(self, nested_model: Any, pipeline_stage_assignments: Sequence[Any]) -> None:
        self._nested_model = nested_model
        self._pipeline_stage_assignments = list(pipeline_stage_assignments)

    @property
    def nested_model(self) -> Any:
        """The model."""
        return self._nested_model

    @property
    def pipeline_stage_assignments(self) -> list[Any]:
        """The assignments of the model's layers, as its own `get_pipeline_stage_assignment()` orders them."""
        return list(self._pipeline_stage_assignments)

    def _lines(self) -> str:
        lines = [line for item in self._pipeline_stage_assignments for line in str(item).splitlines()]
        return "".join(f"\n  {line}" for line in lines)


class SequentialNestedModelPipelineStageAssignment(_NestedModelAssignment):
    """The pipeline stages of the layers of a model that is a layer of a Sequential model."""

    def __str__(self) -> str:
        return f"Model: {self.nested_model.name} has the following pipeline stage assignments:{self._lines()}"


class NestedModelPipelineStageAssignment(_NestedModelAssignment):
    """The pipeline stages of the layers of a model that is a layer of a subclassed model, for one call of
    it."""

    def __init__(self, nested_model: Any, node_index: int, pipeline_stage_assignments: Sequence[Any]) -> None:
        """`node_index`: which call of the model, from 0."""
        super().__init__(nested_model, pipeline_stage_assignments)
        self._node_index = node_index
        self._inbound_layers: list[Any] | None = None

    @property
    def node_index(self) -> int:
        """Which call of the model, from 0."""
        return self._node_index

    @property
    def inbound_layers(self) -> list[Any]:
        """The layers whose results the call takes, by which to tell one call from another."""
        return _inbound_layers(self._inbound_layers, self.nested_model, self.node_index)

    def __str__(self) -> str:
        return (
            f"Model: {self.nested_model.name} (node index {self.node_index}) has the following pipeline "
            f"stage assignments:{self._lines()}"
        )


class FunctionalNestedModelPipelineStageAssignment(NestedModelPipelineStageAssignment):
    """The pipeline stages of the layers of a model that is a layer of a functional model, for one call of
    it."""


def _inbound_layers(found: list[Any] | None, layer: Any, node_index: int) -> list[Any]:
    if found is not None:
        return list(found)
    node = layer._inbound_nodes[node_index]
    return [getattr(parent, "operation", None) or parent.layer for parent in node.parent_nodes]
