"""What pipelines take for training alone: it is refused, or has no effect."""

from __future__ import annotations

import enum
from typing import Any

from tensorflow_ipu.gradient_accumulation import GradientAccumulationReductionMethod


class RecomputationMode(enum.Enum):
    """When activations are computed again in training. Pipelines for inference take `Auto`, the default."""

    Auto = 1
    RecomputeThenBackpropagate = 2
    RecomputeAndBackpropagateInterleaved = 3


# Arguments of `pipeline` that only matter when gradients are computed, and the values that stand for "not
# given" or are the original's defaults.
TRAINING_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "optimizer_function": (None,),
    "gradient_accumulation_dtype": (None,),
    "gradient_accumulation_for_captured_grads": (None, True),
    "recomputation_mode": (None, RecomputationMode.Auto),
    "backward_propagation_stages_poplar_options": (None,),
    "weight_update_poplar_options": (None,),
    "offload_weight_update_variables": (None, False),
    "replicated_optimizer_state_sharding": (None, False),
    "offload_gradient_accumulation_buffers": (None, False),
    "continuous_weight_updates": (None, False),
    "outfeed_loss": (None, False),
    "accumulate_outfeed": (None, False),
    "accumulate_outfeed_dtype": (None,),
    "outfeed_mask": (None,),
    "reduction_method": (None, GradientAccumulationReductionMethod.SUM, "SUM", "sum"),
}
