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
) -> Signature:
    """The signature of `function`, every spec named by its parameter.

    It comes from `signature`, else from `input_dataset`, else from `function` being a tf.function with an
    input_signature.

    Args:
      name: of the argument that `function` was given as, for messages ("predict_step").
      signature: list or tuple of TensorSpec, or None.
      signature_argument: name of the argument `signature` ("predict_step_signature").
      input_dataset: tf.data.Dataset whose elements are what the function takes, or None.

    Raises:
      ValueError: signature and dataset are both given; there is no way to get a signature; it is empty; its
        length is not the number of the function's parameters.
      TypeError: a signature is no list or tuple of TensorSpec; input_dataset is no tf.data.Dataset.
    """
    specs = _given_specs(function, name, signature, signature_argument, input_dataset)
    return _named(function, name, specs, 0)


def bind_constants(
    function: Callable,
    name: str,
    signature: Any,
    signature_argument: str,
    input_dataset: Any,
    constants: Sequence[Any],
) -> tuple[list[tf.Tensor], Signature]:
    """The constants for the first parameters of `function`, as tensors, and the signature of the others.

    A signature of all parameters and one of those behind the constants are told apart by their length. One of
    all gives the dtypes of constants that have none of their own (Python numbers).

    Args and raises: as deduce_signature(); ValueError when a constant is not what the signature says of it.
    """
    specs = _given_specs(function, name, signature, signature_argument, input_dataset)
    count = len(constants)
    if input_dataset is None and count and len(specs) > _most_parameters(function) - count:
        bound = [_constant(value, spec, name) for value, spec in zip(constants, specs[:count], strict=False)]
        specs = specs[count:]
    else:
        bound = [tf.convert_to_tensor(value) for value in constants]
    if not specs:
        raise ValueError(
            f"The signature of `{name}` describes its constant inputs alone. An exported model needs at "
            "least one input that is fed by requests."
        )
    return bound, _named(function, name, specs, count)


def _constant(value: Any, spec: tf.TensorSpec, name: str) -> tf.Tensor:
    own = getattr(value, "dtype", None)
    tensor = tf.convert_to_tensor(value, spec.dtype if own is None else None)
    if tensor.dtype != spec.dtype or not tensor.shape.is_compatible_with(spec.shape):
        raise ValueError(
            f"A constant of `inputs` is a {tensor.dtype.name} tensor of shape {tensor.shape}, but the "
            f"signature of `{name}` has a {spec.dtype.name} tensor of shape {spec.shape} in its place."
        )
    return tensor


def _given_specs(
    function: Callable, name: str, signature: Any, signature_argument: str, input_dataset: Any
) -> Signature:
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
    if not specs:
        raise ValueError(
            f"The signature of `{name}` is empty. An exported model needs at least one input that is fed by "
            "requests."
        )
    return specs


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
    for position, spec in enumerate(specs):
        if not isinstance(spec, tf.TensorSpec):
            raise TypeError(
                f"The elements of `input_dataset` must be a tensor, or a tuple of tensors, one for each"
                f" parameter, but component {position} is {spec!r}."
            )
    return specs


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
    parameters = _parameters(function)
    if parameters is None:
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


def _parameters(function: Callable) -> list[inspect.Parameter] | None:
    """None for some built-in functions, which tell nothing."""
    try:
        return list(inspect.signature(getattr(function, "python_function", function)).parameters.values())
    except (TypeError, ValueError):
        return None


def _most_parameters(function: Callable) -> float:
    """How many positional arguments the function takes at most."""
    parameters = _parameters(function)
    if parameters is None or any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return float("inf")
    return sum(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    )


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
