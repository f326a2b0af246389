"""Subclassed models that are made in an IPU strategy."""

from tensorflow_ipu.keras.extensions.extensions_base import KerasExtensionBase
from tensorflow_ipu.keras.pipeline_stage import PipelineStage
from tensorflow_ipu.keras.stage_assignment import (
    ModelLayerPipelineStageAssignment,
    NestedModelPipelineStageAssignment,
)

__all__ = [
    "ModelExtension",
    "ModelLayerPipelineStageAssignment",
    "NestedModelPipelineStageAssignment",
    "PipelineStage",
]


class ModelExtension(KerasExtensionBase):
    """The subclassed models that are made in an IPU strategy, for `isinstance()`."""

    kinds = ("subclassed",)
