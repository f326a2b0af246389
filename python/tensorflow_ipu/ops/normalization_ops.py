"""Normalisation of the channels of one example, with the statistics of that example."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tensorflow_ipu.integers import as_integer

__all__ = ["group_norm", "instance_norm", "layer_norm"]


def group_norm(
    inputs: Any,
    groups: int = 2,
    channels_axis: int = -1,
    center: bool = True,
    scale: bool = True,
    epsilon: float = 1e-6,
    param_initializers: Mapping[str, Any] | None = None,
    reuse: Any = None,
    variables_collections: Any = None,
    training: bool = True,
    trainable: bool = True,
    scope: Any = None,
    strided_channel_grouping: bool = True,
) -> tf.Tensor:
    """Normalises groups of channels.

    Args:
      inputs: of known rank, at least 2, with a known number of channels.
      groups: how many; divides the number of channels.
      channels_axis: 1, or the last axis.
      center, scale: whether there are variables `beta`, which is added, and `gamma`, which is a factor.
      epsilon: added to the variance.
      param_initializers: initialisers of the variables by name.
      reuse, variables_collections, trainable, scope: as of tf.compat.v1.get_variable.
      training: accepted; the statistics are those of the example in any case.
      strided_channel_grouping: whether a group has each `groups`-th channel, instead of neighbours.

    Raises:
      ValueError: rank, axis or channels are not known, or do not go together with `groups`.
    """
    del training
    return _normalise(
        "GroupNorm",
        inputs,
        as_integer("groups", groups, 1),
        channels_axis,
        (center, scale, epsilon),
        (param_initializers or {}, reuse, variables_collections, trainable, scope),
        bool(strided_channel_grouping),
    )


def layer_norm(
    inputs: Any,
    channels_axis: int = -1,
    center: bool = True,
    scale: bool = True,
    epsilon: float = 1e-6,
    param_initializers: Mapping[str, Any] | None = None,
    reuse: Any = None,
    variables_collections: Any = None,
    training: bool = True,
    trainable: bool = True,
    scope: Any = None,
) -> tf.Tensor:
    """All channels are one group: see group_norm()."""
    del training
    return _normalise(
        "LayerNorm",
        inputs,
        1,
        channels_axis,
        (center, scale, epsilon),
        (param_initializers or {}, reuse, variables_collections, trainable, scope),
        False,
    )


def instance_norm(
    inputs: Any,
    channels_axis: int = -1,
    center: bool = True,
    scale: bool = True,
    epsilon: float = 1e-6,
    param_initializers: Mapping[str, Any] | None = None,
    reuse: Any = None,
    variables_collections: Any = None,
    training: bool = True,
    trainable: bool = True,
    scope: Any = None,
) -> tf.Tensor:
    """Each channel is a group: see group_norm()."""
    del training
    return _normalise(
        "InstanceNorm",
        inputs,
        None,
        channels_axis,
        (center, scale, epsilon),
        (param_initializers or {}, reuse, variables_collections, trainable, scope),
        False,
    )


def _normalise(
    kind: str,
    inputs: Any,
    groups: int | None,
    channels_axis: int,
    formula: tuple[bool, bool, float],
    variables: tuple[Mapping[str, Any], Any, Any, bool, Any],
    strided: bool,
) -> tf.Tensor:
    x = tf.convert_to_tensor(inputs)
    axis, channels = _channels(x, channels_axis)
    groups = channels if groups is None else groups
    if channels % groups:
        raise ValueError(f"{channels} channels is not commensurate with {groups} groups.")
    center, scale, epsilon = formula
    beta, gamma = _parameters(kind, x.dtype, channels, center, scale, variables)

    last = x if axis == x.shape.rank - 1 else tf.transpose(x, [0, *range(2, x.shape.rank), 1])
    shape = tf.shape(last)
    per_group = [channels // groups, groups] if strided else [groups, channels // groups]
    grouped = tf.reshape(last, tf.concat([shape[:1], [-1], per_group], 0))
    over = [1, 2] if strided else [1, 3]
    mean, variance = tf.nn.moments(tf.cast(grouped, tf.float32), over, keepdims=True)
    normal = (tf.cast(grouped, tf.float32) - mean) * tf.math.rsqrt(variance + epsilon)
    result = tf.cast(tf.reshape(normal, shape), x.dtype)
    result = result if gamma is None else result * gamma
    result = result if beta is None else result + beta
    result = result if last is x else tf.transpose(result, [0, x.shape.rank - 1, *range(1, x.shape.rank - 1)])
    return tf.ensure_shape(result, x.shape)


def _channels(x: tf.Tensor, channels_axis: int) -> tuple[int, int]:
    rank = x.shape.rank
    if rank is None:
        raise ValueError("The inputs of a normalisation have an undefined rank.")
    axis = as_integer("channels_axis", channels_axis)
    axis = axis + rank if axis < 0 else axis
    if axis not in (1, rank - 1):
        raise ValueError(f"`channels_axis` must be 1 or the last axis of {rank}, but is {channels_axis}.")
    if x.shape[axis] is None:
        raise ValueError("The inputs of a normalisation have an undefined number of channels.")
    return axis, x.shape[axis]


def _parameters(
    kind: str,
    dtype: tf.DType,
    channels: int,
    center: bool,
    scale: bool,
    variables: tuple[Mapping[str, Any], Any, Any, bool, Any],
) -> tuple[Any, Any]:
    """`beta` and `gamma`; None for one that there is not."""
    initializers, reuse, collections, trainable, scope = variables
    v1 = tf.compat.v1

    def variable(name: str, initializer: Any) -> Any:
        own = collections.get(name) if isinstance(collections, dict) else collections
        return v1.get_variable(
            name,
            [channels],
            dtype,
            initializer=initializers.get(name, initializer),
            collections=own,
            trainable=trainable,
            use_resource=True,
        )

    with v1.variable_scope(scope, kind, reuse=reuse):
        beta = variable("beta", v1.zeros_initializer()) if center else None
        gamma = variable("gamma", v1.ones_initializer()) if scale else None
    return beta, gamma
