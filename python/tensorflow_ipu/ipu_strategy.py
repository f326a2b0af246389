"""The strategy in whose scope models for the IPU are made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

__all__ = ["IPUStrategy", "IPUStrategyV1", "in_ipu_strategy"]


class IPUStrategyV1(tf.distribute.OneDeviceStrategy):
    """A TensorFlow distribution strategy of one replica, for models that are exported to an IPU.

    Keras models (of Keras 3 and of tf_keras) made in its `scope()` can be exported: they have
    `export_for_ipu_serving()`, `set_pipelining_options()` and `get_`/`set_pipeline_stage_assignment()`.
    Variables live on the host until an export takes their values, so the scope changes nothing else about
    them; training and prediction of such models run on the host.
    """

    def __init__(
        self,
        ipu_device: str = "/device:IPU:0",
        cpu_device: str = "/device:CPU:0",
        enable_dataset_iterators: bool = True,
        enable_keras_extensions: bool = True,
    ) -> None:
        """
        Args:
          ipu_device: the TensorFlow device whose IPUs are meant: the first one of the `IPUConfig`.
          cpu_device: where variables live and functions run.
          enable_dataset_iterators: accepted; datasets are iterated as always.
          enable_keras_extensions: whether models made in the scope can be exported.
        """
        super().__init__(cpu_device)
        self.ipu_device = ipu_device
        self.enable_keras_extensions = enable_keras_extensions
        self._without_jit: dict[int, tuple[Any, Any]] = {}
        del enable_dataset_iterators

    @contextlib.contextmanager
    def scope(self) -> Iterator[IPUStrategyV1]:
        """In this scope, models belong to the strategy."""
        with super().scope():
            yield self

    def run(  # type: ignore[override]
        self, fn: Callable[..., Any], args: Any = (), kwargs: Any = None, options: Any = None
    ) -> Any:
        """Calls `fn(*args, **kwargs)` on the host and returns what it returns.

        A `tf.function` that asks for `jit_compile` is run without it, so that programs with feeds (infeed
        and outfeed queues, `loops.repeat`, pipelines) run as well.
        """
        if not callable(fn):
            raise TypeError(f"`fn` must be a function, but a {type(fn).__name__} was given.")
        return super().run(self._plain(fn), args, kwargs, options)

    def experimental_run_v2(self, *args: Any, **kwargs: Any) -> Any:
        """The name `run` had in TensorFlow 2.0: raises RuntimeError."""
        raise RuntimeError("`experimental_run_v2` has been deleted. Use `run` instead.")

    def _plain(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        if not getattr(fn, "_jit_compile", None):
            return fn
        if id(fn) not in self._without_jit:
            function: Any = fn
            plain = tf.function(function.python_function, input_signature=function.input_signature)
            # Keeping `fn` keeps its id from being used again.
            self._without_jit[id(fn)] = (fn, plain)
        return self._without_jit[id(fn)][1]


IPUStrategy = IPUStrategyV1


def in_ipu_strategy() -> bool:
    """Whether the caller is inside the scope of an IPU strategy that extends Keras models."""
    strategy = tf.distribute.get_strategy()
    return isinstance(strategy, IPUStrategyV1) and strategy.enable_keras_extensions
