"""From a Python function to HLO: trace -> freeze -> fold -> lower.

function = trace(predict_step, [tf.TensorSpec([4], tf.float32, "x")], name="predict_step")
stage = lower(fold(freeze(function)))       # or in one go: lower_function(predict_step, signature, name)
stage.hlo          serialised xla.HloModuleProto, one parameter for each of stage.inputs, then stage.variables
stage.inputs       TensorSpecs of the fed parameters, in order; an unused one is still there
stage.variables    variables that were not frozen; their values are further parameters, in this order
stage.results      TensorSpecs of the results, in the order in which tf.nest flattens what the function
returns
"""

from __future__ import annotations

from tensorflow_ipu.lowering.folding import fold
from tensorflow_ipu.lowering.freezing import freeze
from tensorflow_ipu.lowering.hlo import LoweredFunction, lower, lower_function
from tensorflow_ipu.lowering.tracing import TracedFunction, trace

__all__ = ["LoweredFunction", "TracedFunction", "fold", "freeze", "lower", "lower_function", "trace"]
