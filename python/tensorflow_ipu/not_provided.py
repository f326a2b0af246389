"""Names of the original API that are not here: what only training, IPU hardware or several machines use.

A script may import them. Using one raises NotImplementedError, which names it, says why it is not here, and
what to do.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
from collections.abc import Sequence
from types import ModuleType
from typing import Any

_TRAINING = (
    "is for training, and this package is for inference. Train with TensorFlow, and export the trained model"
)
_MACHINES = (
    "is for training on several machines, and this package is for inference. Start a server on each machine"
)
_ESTIMATOR = "belongs to TensorFlow's estimators, which are gone. Export a function or a Keras model"
_CODELETS = "runs code for IPU tiles, which the emulator has not. Write it with TensorFlow's operations"
_DATA = "measures or writes data for IPU hardware. Iterate over the tf.data.Dataset itself"
_REPORTS = "reads reports of IPU hardware, of which there are none. Use `tensorflow_ipu inspect` and `bench`"
_REPLICAS = "works across replicas, and a program here runs in one. Leave it out"
_TILES = "is an operation of IPU hardware. Use TensorFlow's operation"
_SHARDING = (
    "spreads a program over IPUs without a pipeline. Use `pipelining_ops` or `serving.export_pipeline`"
)
_WEIGHTS = (
    "moves weights between a session and an executable. Pass variables as start-up inputs, or freeze them"
)
_LAYERS = "is a layer for IPU hardware. Use the layer of Keras that computes the same"
_OPTIONS = "was replaced by `ipu.config.IPUConfig`. Set the option's attribute of an IPUConfig"

# Module: why, and its names. Folders have no names of their own.
_MODULES: dict[str, tuple[str, Sequence[str]]] = {
    "optimizers": (
        _TRAINING,
        (
            "AutomaticLossScalingOptimizer",
            "CrossReplicaGradientAccumulationOptimizer",
            "CrossReplicaGradientAccumulationOptimizerV2",
            "CrossReplicaOptimizer",
            "GradientAccumulationOptimizer",
            "GradientAccumulationOptimizerV2",
            "IpuOptimizer",
            "MapGradientOptimizer",
            "ShardedOptimizer",
        ),
    ),
    "optimizers.automatic_loss_scaling_optimizer": (_TRAINING, ("AutomaticLossScalingOptimizer",)),
    "optimizers.cross_replica_optimizer": (_TRAINING, ("CrossReplicaOptimizer",)),
    "optimizers.gradient_accumulation_optimizer": (
        _TRAINING,
        (
            "CrossReplicaGradientAccumulationOptimizer",
            "CrossReplicaGradientAccumulationOptimizerV2",
            "GradientAccumulationOptimizer",
            "GradientAccumulationOptimizerV2",
        ),
    ),
    "optimizers.ipu_optimizer": (_TRAINING, ("IpuOptimizer",)),
    "optimizers.map_gradient_optimizer": (
        _TRAINING,
        ("MapGradientOptimizer", "MapGradientOptimizerInvertedChaining"),
    ),
    "optimizers.sharded_optimizer": (_TRAINING, ("ShardedOptimizer",)),
    "keras.optimizers": (
        _TRAINING,
        (
            "ALSOptimizer",
            "ALSOptimizerGradientAccumulationWrapper",
            "AutomaticLossScalingOptimizer",
            "CrossReplicaOptimizer",
            "GradientAccumulationOptimizer",
            "IpuOptimizer",
            "MapGradientOptimizer",
        ),
    ),
    "keras.losses": (_TRAINING, ("CTCLoss",)),
    "keras.layers": (
        _LAYERS,
        (
            "AssumeEqualAcrossReplicas",
            "CTCInferenceLayer",
            "CTCPredictionsLayer",
            "CaptureActivationGradients",
            "CaptureUpstreamGradients",
            "Dropout",
            "EffectiveTransformer",
            "Embedding",
            "GroupNorm",
            "GroupNormalization",
            "InstanceNorm",
            "InstanceNormalization",
            "LayerNorm",
            "LayerNormalization",
            "PopnnGRU",
            "PopnnLSTM",
            "RecomputationCheckpoint",
            "SerialDense",
        ),
    ),
    "eager": (_TRAINING, ()),
    "eager.backprop": (_TRAINING, ("GradientAccumulationTape",)),
    "grad_util_ops": (_TRAINING, ("capture_upstream_gradients",)),
    "ipu_estimator": (_ESTIMATOR, ("IPUEstimator", "IPUEstimatorSpec", "IPUEstimatorV1")),
    "ipu_pipeline_estimator": (
        _ESTIMATOR,
        ("IPUPipelineEstimator", "IPUPipelineEstimatorSpec", "IPUPipelineEstimatorV1"),
    ),
    "ipu_run_config": (_ESTIMATOR, ("IPURunConfig", "RunConfig")),
    "ipu_session_run_hooks": (_ESTIMATOR, ("IPULoggingTensorHook",)),
    "ipu_multi_worker_strategy": (_MACHINES, ("IPUMultiWorkerStrategy", "IPUMultiWorkerStrategyV1")),
    "horovod": (_MACHINES, ("allreduce", "broadcast", "init", "rank", "size")),
    "horovod.ipu_horovod_strategy": (_MACHINES, ("IPUHorovodStrategy", "IPUHorovodStrategyV1")),
    "horovod.ipu_multi_replica_strategy": (
        _MACHINES,
        ("IPUMultiReplicaStrategy", "IPUMultiReplicaStrategyV1"),
    ),
    "horovod.popdist_strategy": (_MACHINES, ("PopDistStrategy",)),
    "distributed": (_MACHINES, ("allgather", "allreduce", "broadcast")),
    "distributed.popdist_strategy": (_MACHINES, ("PopDistStrategy",)),
    "sharding": (
        _SHARDING,
        ("dependencies", "get_shard_from_colocation", "has_attr", "propagate_sharding"),
    ),
    "autoshard": (_SHARDING, ("automatic_sharding", "ipu_autoshard")),
    "autoshard_cnn": (_SHARDING, ("automatic_sharding",)),
    "data": (_DATA, ()),
    "data.ops": (_DATA, ()),
    "data.ops.dataset_ops": (_DATA, ("BufferDataset",)),
    "dataset_benchmark": (_DATA, ("dataset_benchmark", "infeed_benchmark")),
    "dataset_extractor": (_DATA, ("dataset_extractor", "export_variables")),
    "custom_ops": (_CODELETS, ("codelet_expression_op", "cpu_user_op", "precompiled_user_op")),
    "vertex_edsl": (_CODELETS, ("DefaultVertexExpr", "PlaceholderVertexExpr")),
    "rnn_ops": (
        _TILES,
        (
            "PopnnAUGRU",
            "PopnnDynamicGRU",
            "PopnnDynamicLSTM",
            "PopnnGRU",
            "PopnnLSTM",
        ),
    ),
    "slicing_ops": (_TILES, ("sequence_slice", "sequence_slice_pack", "sequence_slice_unpack")),
    "statistics_ops": (
        _TILES,
        ("fixed_width_bins", "histogram", "histogram_normalize", "histogram_update"),
    ),
    "control_flow_ops": (_TILES, ("barrier",)),
    "f8_ops": (_TILES, ("QuarterTensor", "convert_from_f8", "convert_to_f8", "f8_matmul")),
    "experimental": (_TILES, ()),
    "experimental.popfloat_cast_to_gfloat": (_TILES, ("GenericFloat",)),
    "summary_ops": (_REPORTS, ("get_ipu_reports", "ipu_compile_summary")),
    "all_to_all_op": (_REPLICAS, ("all_gather", "all_to_all")),
    "reduce_scatter_op": (_REPLICAS, ("reduce_scatter",)),
    "within_replica_ops": (_REPLICAS, ("all_gather", "all_reduce", "reduce_scatter")),
    **{
        f"{name}_grad": (_TRAINING, ())
        for name in (
            "all_to_all_op",
            "control_flow_ops",
            "cross_replica_ops",
            "embedding_ops",
            "functional_ops",
            "grad_util_ops",
            "internal_ops",
            "nn_ops",
            "normalization_ops",
            "pipelining_ops",
            "rand_ops",
            "rnn_ops",
            "slicing_ops",
            "within_replica_ops",
        )
    },
}

# Names of modules that are here otherwise.
_NAMES: dict[str, dict[str, str]] = {
    "embedding_ops": dict.fromkeys(
        ("HostEmbedding", "HostEmbeddingOptimizerSpec", "create_host_embedding"),
        "keeps a table on the host while a program is trained. Use `embedding_lookup` with a variable",
    ),
    "nn_ops": dict.fromkeys(
        (
            "ctc_beam_search_decoder",
            "ctc_beam_search_decoder_with_log_probs",
            "ctc_loss",
            "ctc_loss_with_log_probs",
            "sampled_softmax_loss",
        ),
        "is for training, or has no kernel on the device. Put it into the postprocessing step",
    ),
    "pipelining_ops": {"OptimizerFunctionOutput": _TRAINING, "recomputation_checkpoint": _TRAINING},
    "utils": {
        **dict.fromkeys(
            (
                "export_variables_from_live_model",
                "export_variables_from_live_session",
                "import_data_in_live_model",
                "import_data_in_live_session",
            ),
            _WEIGHTS,
        ),
        **dict.fromkeys(("export_dataset_to_file", "export_inputs_to_file"), _DATA),
        **dict.fromkeys(
            (
                "extract_all_events",
                "extract_all_strings_from_event_trace",
                "extract_all_types_from_event_trace",
                "extract_compile_reports",
                "extract_execute_reports",
                "extract_poplar_serialized_graphs",
            ),
            _REPORTS,
        ),
        **dict.fromkeys(
            (
                "auto_select_ipus",
                "create_ipu_config",
                "select_ipus",
                "set_compilation_options",
                "set_convolution_options",
                "set_experimental_multi_replica_distribution_options",
                "set_floating_point_behaviour_options",
                "set_io_tile_options",
                "set_ipu_connection_type",
                "set_ipu_model_options",
                "set_matmul_options",
                "set_norm_options",
                "set_optimization_options",
                "set_pooling_options",
                "set_recomputation_options",
                "set_serialization_options",
                "set_transfer_options",
            ),
            _OPTIONS,
        ),
    },
}


class _NotProvided(type):
    """Its classes stand for functions, classes and enumerations that are not provided."""

    _text: str

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(cls._text)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise NotImplementedError(cls._text)


def stand_in(module: str, name: str) -> Any:
    """What stands for a name that is not provided: anything done with it raises NotImplementedError.

    Raises:
      AttributeError: the original API has no such name.
    """
    why, names = _MODULES.get(module, ("", ()))
    reason = why if name in names else _NAMES.get(module, {}).get(name)
    if reason is None:
        raise AttributeError(f"module 'tensorflow_ipu.{module}' has no attribute '{name}'")
    text = f"`ipu.{module}.{name}` is not provided: it {reason}."
    return _NotProvided(name, (), {"_text": text, "__doc__": text, "__module__": f"tensorflow_ipu.{module}"})


def is_module(name: str) -> bool:
    """Whether it is a module of the original API of which nothing is here."""
    return name in _MODULES


class Loader(importlib.abc.Loader):
    """Makes such a module."""

    def __init__(self, name: str) -> None:
        self._name = name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        del spec
        return _Module(self._name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Module(ModuleType):
    def __init__(self, name: str) -> None:
        why, names = _MODULES[name]
        super().__init__(f"tensorflow_ipu.{name}", f"Not provided: it {why}.")
        self.__all__ = list(names)
        self.__path__: list[str] = []
        self._relative = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if is_module(f"{self._relative}.{name}"):
            return importlib.import_module(f"{self.__name__}.{name}")
        return stand_in(self._relative, name)

    def __dir__(self) -> list[str]:
        return sorted(self.__all__)
