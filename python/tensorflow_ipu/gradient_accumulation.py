"""How gradients of several batches are brought together: named by scripts that only run inference, too."""

from __future__ import annotations

import enum

__all__ = ["GradientAccumulationReductionMethod"]


class GradientAccumulationReductionMethod(enum.Enum):
    """`SUM` is what pipelines for inference take, as nothing is accumulated in them."""

    SUM = 0
    MEAN = 1
    RUNNING_MEAN = 2
