"""What a function of an export takes: its signature from one of several sources, and the names of its
parameters."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.eager.polymorphic_function import polymorphic_function

Signature = list[tf.TensorSpec]


def deduce_signature(
    function: Callable,
    name: str,
    signature: Any,
    signature_argument: str,
    input_dataset: Any = None,
    leading_constants: int = 0,
) -> Signature:
    """The signature of `function`, every spec named by its parameter.

    It comes from `signature`, else from `input_dataset`, else from `function` being a tf.function with an
    input_signature.

    Args:
      name: of the argument that `function` was given as, for messages ("predict_step").
      signature: list or tuple of TensorSpec, or None.
      signature_argument: name of the argument `signature` ("predict_step_signature").
      input_dataset: tf.data.Dataset whose elements are what the function takes, or None.
      leading_constants: that many parameters are bound to constants and are not part of the signature.

    Raises:
      ValueError: signature and dataset are both given; there is no way to get a signature; it is empty; its
        length is not the number of the function's parameters.
      TypeError: a signature is no list or tuple of TensorSpec; input_dataset is no tf.data.Dataset.
    """
    if signature is not None and input_dataset is not None:
        raise ValueError(
            f"Both `{signature_argument}` and `input_dataset` cannot be provided: each of them determines "
            f"what `{name}` takes."
        )
    if signature is not None:
        specs = _checked(signature, f"`{signature_argument}`")
    elif input_dataset is not None:
        specs = _dataset_specs(input_dataset)
    else:
        specs = _function_specs(function, name, signature_argument)
        specs = specs[leading_constants:]
    if not specs:
        raise ValueError(
            f"The signature of `{name}` is empty. An exported model needs at least one input that is fed by "
            "requests."
        )
    return _named(function, name, specs, leading_constants)


def check_input_dataset(input_dataset: Any) -> None:
    """Raises TypeError when it is neither None nor a tf.data.Dataset."""
    if input_dataset is not None and not isinstance(input_dataset, tf.data.Dataset):
        raise TypeError(
            f"`input_dataset` must be a tf.data.Dataset, but a {type(input_dataset).__name__} was given."
        )


def specs_of(signature: Any, argument: str) -> Signature:
    """A signature given by the user, checked to be a list or tuple of TensorSpec and not empty."""
    specs = _checked(signature, f"`{argument}`")
    if not specs:
        raise ValueError(f"`{argument}` is empty.")
    return specs


def _checked(signature: Any, what: str) -> Signature:
    if not isinstance(signature, (list, tuple)):
        raise TypeError(
            f"{what} must be a list or tuple of tf.TensorSpec, but a {type(signature).__name__} was given."
        )
    for position, spec in enumerate(signature):
        if not isinstance(spec, tf.TensorSpec):
            raise TypeError(
                f"Every element of {what} must be a tf.TensorSpec, but element {position} is a "
                f"{type(spec).__name__}."
            )
    return list(signature)


def _dataset_specs(input_dataset: Any) -> Signature:
    check_input_dataset(input_dataset)
    element = input_dataset.element_spec
    specs = list(element) if isinstance(element, (list, tuple)) else [element]
    return _checked(specs, "the elements of `input_dataset`")


def _function_specs(function: Callable, name: str, signature_argument: str) -> Signature:
    how = (
        f"Pass `{signature_argument}` or `input_dataset`, or give `{name}` as tf.function with an "
        "`input_signature`."
    )
    if not isinstance(function, polymorphic_function.Function):
        raise ValueError(
            f"`input_signature` deduction from given `{name}` is not possible: it is a "
            f"{type(function).__name__}, not a tf.function. {how}"
        )
    if function.input_signature is None:
        raise ValueError(f"Empty `input_signature` inside provided tf.function `{name}`. {how}")
    return _checked(function.input_signature, f"the `input_signature` of `{name}`")


def parameter_names(function: Callable, count: int, name: str) -> list[str]:
    """Names of the first `count` positional parameters; `*args` gives args_0, args_1, ...

    Raises:
      ValueError: the function takes fewer, or needs more.
    """
    python_function = getattr(function, "python_function", function)
    try:
        parameters = list(inspect.signature(python_function).parameters.values())
    except (TypeError, ValueError):  # some built-in functions tell nothing
        return [f"args_{position}" for position in range(count)]
    names: list[str] = []
    required = 0
    for parameter in parameters:
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
            required += parameter.default is inspect.Parameter.empty
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names.extend(f"{parameter.name}_{index}" for index in range(count - len(names)))
    if not required <= count <= len(names):
        raise ValueError(
            f"The signature of `{name}` has {count} elements, but the function has {len(names)} parameters"
            f" ({', '.join(names)})."
        )
    return names[:count]


def _named(
    function: Callable, name: str, specs: Sequence[tf.TensorSpec], leading_constants: int
) -> Signature:
    names = parameter_names(function, leading_constants + len(specs), name)[leading_constants:]
    return [tf.TensorSpec(spec.shape, spec.dtype, label) for spec, label in zip(specs, names, strict=True)]


def check_output_names(output_names: Any) -> list[str] | None:
    """A string or a list (or tuple) of strings as a list; None when not given.

    Raises:
      TypeError: anything else.
      ValueError: a name comes twice.
    """
    if output_names is None:
        return None
    names = [output_names] if isinstance(output_names, str) else output_names
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"`output_names` must be a string or a list of strings, but {output_names!r} was given."
        )
    if len(set(names)) != len(names):
        raise ValueError(f"`output_names` must differ from each other, but they are {list(names)}.")
    return list(names)


def resolve_output_names(output_names: list[str] | None, count: int) -> list[str]:
    """The given names, or output_0, output_1, ...

    Raises:
      ValueError: their number is not `count`.
    """
    if output_names is None:
        return [f"output_{position}" for position in range(count)]
    if len(output_names) != count:
        raise ValueError(
            f"Length of output_names does not match the number of outputs: {len(output_names)} names were "
            f"given ({', '.join(output_names)}), but the model has {count} outputs."
        )
    return output_names


def check_step_boundary(
    producer: str, results: Sequence[tf.TensorSpec], consumer: str, parameters: Sequence[tf.TensorSpec]
) -> None:
    """Checks that what one step returns is what the next one takes. Unknown dimensions match any.

    Raises:
      ValueError: count, a shape or a dtype differ; names both sides.
    """
    if len(results) != len(parameters):
        raise ValueError(
            f"The outputs of `{producer}` do not match the inputs of `{consumer}`: it returns {len(results)} "
            f"tensors ({_describe(results)}), but {len(parameters)} are expected ({_describe(parameters)})."
        )
    for position, (result, parameter) in enumerate(zip(results, parameters, strict=True)):
        if result.dtype != parameter.dtype:
            raise ValueError(
                f"The outputs of `{producer}` do not match the inputs of `{consumer}`: output {position} has "
                f"the dtype {result.dtype.name}, but input {position} ('{parameter.name}') has the dtype "
                f"{parameter.dtype.name}."
            )
        if not result.shape.is_compatible_with(parameter.shape):
            raise ValueError(
                f"The outputs of `{producer}` do not match the inputs of `{consumer}`: output {position} has "
                f"the shape {result.shape}, but input {position} ('{parameter.name}') has the shape "
                f"{parameter.shape}."
            )


def _describe(specs: Sequence[tf.TensorSpec]) -> str:
    return ", ".join(f"{spec.dtype.name} {spec.shape}" for spec in specs)
