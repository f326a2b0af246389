"""Functional models that are made in an IPU strategy."""

from tensorflow_ipu.keras.extensions.extensions_base import KerasExtensionBase
from tensorflow_ipu.keras.pipeline_stage import PipelineStage
from tensorflow_ipu.keras.stage_assignment import (
    FunctionalLayerPipelineStageAssignment,
    FunctionalNestedModelPipelineStageAssignment,
)

__all__ = [
    "FunctionalExtension",
    "FunctionalLayerPipelineStageAssignment",
    "FunctionalNestedModelPipelineStageAssignment",
    "PipelineStage",
]


class FunctionalExtension(KerasExtensionBase):
    """The functional models that are made in an IPU strategy, for `isinstance()`."""

    kinds = ("functional",)
