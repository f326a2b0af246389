"""Sequential models that are made in an IPU strategy."""

from tensorflow_ipu.keras.extensions.extensions_base import KerasExtensionBase
from tensorflow_ipu.keras.pipeline_stage import PipelineStage
from tensorflow_ipu.keras.stage_assignment import (
    SequentialLayerPipelineStageAssignment,
    SequentialNestedModelPipelineStageAssignment,
)

__all__ = [
    "SequentialExtension",
    "SequentialLayerPipelineStageAssignment",
    "SequentialNestedModelPipelineStageAssignment",
    "PipelineStage",
]


class SequentialExtension(KerasExtensionBase):
    """The sequential models that are made in an IPU strategy, for `isinstance()`."""

    kinds = ("sequential",)
