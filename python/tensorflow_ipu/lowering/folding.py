"""Makes a frozen function smaller before it is lowered."""

from __future__ import annotations

from dataclasses import replace

from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.eager import wrap_function
from tensorflow.python.grappler import tf_optimizer

from tensorflow_ipu.lowering.batch_norm import fold_batch_norm
from tensorflow_ipu.lowering.tracing import TracedFunction
from tensorflow_ipu.lowering.weights import take_weights_out


def fold(function: TracedFunction) -> TracedFunction:
    """Evaluates what depends on constants only, and moves batch normalisation into the weights before it."""
    frozen = function.frozen
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [tensor.name for tensor in frozen.outputs]
    meta_graph = meta_graph_pb2.MetaGraphDef(graph_def=frozen.graph.as_graph_def())
    meta_graph.collection_def["train_op"].node_list.value.extend([*inputs, *outputs])
    config = config_pb2.ConfigProto()
    # Nothing but constant folding: other optimisers make operations that only TensorFlow's kernels know.
    config.graph_options.rewrite_options.optimizers.append("constfold")
    config.graph_options.rewrite_options.min_graph_nodes = -1
    graph_def = tf_optimizer.OptimizeGraph(config, meta_graph)
    # Bodies of control flow stay as they are: TensorFlow knows them by their names already.
    graph_def.library.CopyFrom(meta_graph.graph_def.library)
    graph_def = fold_batch_norm(graph_def, [name.split(":")[0] for name in outputs])
    weights = take_weights_out(graph_def)
    frozen = wrap_function.function_from_graph_def(
        graph_def, [*inputs, *(f"{name}:0" for name in weights)], outputs
    )
    return replace(function, frozen=frozen, weights=list(weights.values()))
