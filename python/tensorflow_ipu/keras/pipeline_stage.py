"""The scope that assigns Keras layers to a pipeline stage."""

from __future__ import annotations

import contextvars
import operator
from typing import Any

from tensorflow_ipu import ipu_strategy
from tensorflow_ipu.keras import layer_calls, model_trace
from tensorflow_ipu.keras.model_trace import scope_stage


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
          ValueError: the stage is not a number from 0 up.
          RuntimeError: the scope is outside of an IPU strategy's, or inside another PipelineStage.
        """
        if not is_stage(self._stage):
            raise ValueError(f"{self._stage!r} is not a valid pipeline stage: stages are numbered from 0.")
        if not ipu_strategy.in_ipu_strategy() and not layer_calls.inside_model():
            raise RuntimeError("PipelineStage may only be used from within an IPUStrategy context.")
        if scope_stage.get() is not None:
            raise RuntimeError(
                f"Pipeline stages must not be nested: stage {self._stage} is inside stage "
                f"{scope_stage.get()}."
            )
        stage = operator.index(self._stage)
        self._scope = model_trace.mark_operations(stage)
        self._scope.__enter__()
        self._token = scope_stage.set(stage)
        return self

    def __exit__(self, *exception: Any) -> None:
        assert self._token is not None
        scope_stage.reset(self._token)
        self._scope.__exit__(*exception)


def is_stage(value: Any) -> bool:
    """Whether it is the number of a stage: an integer, of NumPy's as well, from 0 up."""
    return hasattr(value, "__index__") and not isinstance(value, bool) and operator.index(value) >= 0
