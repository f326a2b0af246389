"""Pipeline stages of the layers of models inside models, of every kind in every kind."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_models import PACKAGES, check_export, package_name, random_array
from tensorflow_ipu import serving
from tensorflow_ipu.config import IPUConfig, reset_ipu_configuration
from tensorflow_ipu.ipu_strategy import IPUStrategy

KINDS = ["functional", "sequential", "subclassed"]


@pytest.fixture(autouse=True)
def eight_ipus() -> Iterator[None]:
    config = IPUConfig()
    config.auto_select_ipus = 8
    config.configure_ipu_system()
    yield
    reset_ipu_configuration()


@pytest.fixture(params=PACKAGES, ids=package_name)
def k(request: pytest.FixtureRequest) -> Any:
    """A Keras package."""
    return request.param


def make(k: Any, kind: str, layers: list[Any], size: int = 6) -> Any:
    """A model that calls the layers one after the other."""

    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.layers_list = layers

        def call(self, inputs: Any) -> Any:
            for layer in self.layers_list:
                inputs = layer(inputs)
            return inputs

    if kind == "functional":
        inputs = k.layers.Input((size,))
        outputs = inputs
        for layer in layers:
            outputs = layer(outputs)
        return k.Model(inputs, outputs)
    if kind == "sequential":
        return k.Sequential([k.layers.Input((size,)), *layers])
    model = Model()
    model.build((1, size))
    return model


def leaves(assignments: list[Any]) -> list[Any]:
    """The assignments of layers, at any depth, in order."""
    found: list[Any] = []
    for item in assignments:
        found += leaves(item.pipeline_stage_assignments) if item.is_nested_model else [item]
    return found


def stages_of(model: Any) -> list[int | None]:
    return [item.pipeline_stage for item in leaves(model.get_pipeline_stage_assignment())]


def number(model: Any) -> int:
    """Assigns each layer call to a stage of its own."""
    assignments = model.get_pipeline_stage_assignment()
    for stage, item in enumerate(leaves(assignments)):
        item.pipeline_stage = stage
    model.set_pipeline_stage_assignment(assignments)
    return len(leaves(assignments))


@pytest.mark.parametrize("outer, inner", itertools.product(KINDS, KINDS))
def test_a_model_in_a_model(k: Any, outer: str, inner: str, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        nested = make(k, inner, [k.layers.Dense(5), k.layers.Dense(4)])
        model = make(k, outer, [k.layers.Flatten(), nested, k.layers.Dense(3)])
        assert stages_of(model) == [None] * 4
        classes = {
            "functional": "FunctionalNestedModelPipelineStageAssignment",
            "sequential": "SequentialNestedModelPipelineStageAssignment",
            "subclassed": "NestedModelPipelineStageAssignment",
        }
        item = model.get_pipeline_stage_assignment()[1]
        assert type(item) is getattr(k.ipu, classes[outer])
        assert item.nested_model is nested
        assert f"Model: {nested.name}" in str(item) and str(item).count("is assigned to pipeline stage") == 2
        assert number(model) == 4
        assert stages_of(model) == [0, 1, 2, 3]
        assert stages_of(nested) == [None, None]
    header = check_export(model, tmp_path / "m", random_array([2, 6]), batch_size=2)
    assert [stage["ipu"] for stage in header["stages"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("kinds", itertools.product(KINDS, KINDS, KINDS), ids="-".join)
def test_three_levels(k: Any, kinds: tuple[str, str, str], tmp_path: Path) -> None:
    with IPUStrategy().scope():
        inner = make(k, kinds[2], [k.layers.Dense(4)], 5)
        middle = make(k, kinds[1], [k.layers.Dense(5), inner])
        model = make(k, kinds[0], [k.layers.Flatten(), middle, k.layers.Dense(3)])
        number(model)
        assert stages_of(model) == [0, 1, 2, 3]
        model.reset_pipeline_stage_assignment()
        assert stages_of(model) == [None] * 4


@pytest.mark.parametrize("outer, inner", itertools.product(["functional", "subclassed"], KINDS))
def test_a_model_that_is_called_several_times(k: Any, outer: str, inner: str, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        nested = make(k, inner, [k.layers.Dense(6)])
        model = make(k, outer, [k.layers.Dense(6), nested, nested, nested, k.layers.Dense(3)])
        assert number(model) == 5
        assert stages_of(model) == [0, 1, 2, 3, 4]
        indices = [item.node_index for item in model.get_pipeline_stage_assignment()[1:4]]
        assert indices == sorted(set(indices))
    header = check_export(model, tmp_path / "m", random_array([2, 6]), batch_size=2)
    assert len(header["stages"]) == 5


@pytest.mark.parametrize(
    "outer, inner", itertools.product(["functional", "subclassed"], ["functional", "subclassed"])
)
def test_layers_made_in_scopes(k: Any, outer: str, inner: str, tmp_path: Path) -> None:
    def dense(units: int, stage: int) -> Any:
        with k.ipu.extensions.pipeline_stage_assignment.PipelineStage(stage):
            return k.layers.Dense(units)

    with IPUStrategy().scope():
        nested = make(k, inner, [dense(5, 1), dense(4, 2)])
        model = make(k, outer, [dense(6, 0), nested, dense(3, 3)])
        assert stages_of(model) == [0, 1, 2, 3]
    assert len(check_export(model, tmp_path / "m", random_array([2, 6]), batch_size=2)["stages"]) == 4


@pytest.mark.parametrize("inner", KINDS)
def test_a_scope_around_the_call_of_a_model(k: Any, inner: str, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        nested = make(k, inner, [k.layers.Dense(5), k.layers.Dense(4)])
        inputs = k.layers.Input((6,))
        with k.ipu.PipelineStage(0):
            outputs = nested(inputs)
        with k.ipu.PipelineStage(1):
            outputs = k.layers.Dense(3)(outputs)
        model = k.Model(inputs, outputs)
        assert stages_of(model) == [0, 0, 1]
    assert len(check_export(model, tmp_path / "m", random_array([2, 6]), batch_size=2)["stages"]) == 2


def test_a_nested_assignment_is_the_default_of_the_outer_one(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        nested = make(k, "sequential", [k.layers.Dense(5), k.layers.Dense(4)])
        nested.set_pipeline_stage_assignment([0, 1])
        model = make(k, "functional", [nested, k.layers.Dense(3)])
        assignments = model.get_pipeline_stage_assignment()
        assert [item.pipeline_stage for item in leaves(assignments)] == [0, 1, None]
        leaves(assignments)[0].pipeline_stage = 5  # of no effect until it is set
        assert stages_of(model) == [0, 1, None]
        for item, stage in zip(leaves(assignments), [0, 0, 1], strict=True):
            item.pipeline_stage = stage
        model.set_pipeline_stage_assignment(assignments)
        assert stages_of(model) == [0, 0, 1]
        assert stages_of(nested) == [0, 1]
    assert len(check_export(model, tmp_path / "m", random_array([2, 6]), batch_size=2)["stages"]) == 2
    assert len(check_export(nested, tmp_path / "n", random_array([2, 6]), batch_size=2)["stages"]) == 2


def test_a_number_assigns_all_layers_of_a_nested_model(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        nested = make(k, "sequential", [k.layers.Dense(5), k.layers.Dense(4)])
        model = make(k, "sequential", [nested, k.layers.Dense(3)])
        model.set_pipeline_stage_assignment([np.int64(0), np.int32(1)])
        assert stages_of(model) == [0, 0, 1]


def test_nested_models_that_were_not_built(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        nested = k.Sequential([k.layers.Dense(5), k.layers.Dense(4)])
        model = k.Sequential([nested, k.layers.Dense(3)])
        number(model)
        model.build((2, 6))
        assert stages_of(model) == [0, 1, 2]
    assert len(check_export(model, tmp_path / "m", random_array([2, 6]))["stages"]) == 3


@pytest.mark.parametrize("kind", KINDS)
def test_errors_name_the_layer_and_the_class(k: Any, kind: str) -> None:
    with IPUStrategy().scope():
        nested = make(k, "functional", [k.layers.Dense(5), k.layers.Dense(4)])
        model = make(k, kind, [nested, k.layers.Dense(3, name="last")])
        nested_class = type(model.get_pipeline_stage_assignment()[0]).__name__
        layer_class = type(model.get_pipeline_stage_assignment()[1]).__name__

        def refused(assignments: list[Any], message: str) -> None:
            with pytest.raises(ValueError, match=message):
                model.set_pipeline_stage_assignment(assignments)
            assert stages_of(model) == [None] * 3

        def fresh(*stages: int | None) -> list[Any]:
            assignments = model.get_pipeline_stage_assignment()
            for item, stage in zip(leaves(assignments), stages, strict=True):
                item.pipeline_stage = stage
            return assignments

        refused(fresh(0, None, 1), "Layer dense.* has not been assigned a pipeline stage")
        refused(fresh(0, 3, 1), r"preceding stages \[2\] had no assignments")
        refused(fresh(1, 2, 0), "Layer last in pipeline stage 0 has a dependency from a pipeline stage")
        refused(fresh(1, 0, 1), "Layer dense.* in pipeline stage 0 has a dependency")
        refused(fresh(0, "1", 1), "'1' is not a valid pipeline stage")
        refused(fresh(0, 1, 2)[:1], r"length .* \(1\) does not match the number of layers in the graph \(2\)")
        wrong = fresh(0, 1, 2)
        wrong[0] = wrong[1]
        refused(
            wrong, f"assignment for nested model {nested.name} .* must be an instance of `{nested_class}`"
        )
        wrong = fresh(0, 1, 2)
        wrong[1] = wrong[0]
        refused(wrong, f"assignment for layer last in {model.name} must be an instance of `{layer_class}`")
        wrong = fresh(0, 1, 2)
        wrong[1] = None
        refused(wrong, "assignment was of type NoneType")
        inner = [wrong[0].pipeline_stage_assignments[0]]
        place = () if kind == "sequential" else (wrong[0].node_index,)
        wrong = fresh(0, 1, 2)
        wrong[0] = type(wrong[0])(nested, *place, inner)
        refused(wrong, rf"\(1\) does not match .* \(2\).*'{nested.name}'")
        model.set_pipeline_stage_assignment(fresh(0, 1, 2))


def test_layers_of_a_nested_model_need_a_stage(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        nested = make(k, "functional", [k.layers.Dense(5, name="forgotten"), k.layers.Dense(4)])
        inputs = k.layers.Input((6,), batch_size=2)
        with k.ipu.PipelineStage(0):
            x = k.layers.Dense(6)(inputs)
        x = nested(x)
        with k.ipu.PipelineStage(1):
            model = k.Model(inputs, k.layers.Dense(3)(x))
    with pytest.raises(ValueError, match="All layers of a pipelined model.*forgotten has not been assigned"):
        serving.export_keras(model, str(tmp_path / "m"))


def test_inbound_layers_of_a_subclassed_model(k: Any) -> None:
    class Model(k.Model):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right, self.add = k.layers.Dense(4), k.layers.Dense(4), k.layers.Add()

        def call(self, inputs: Any) -> Any:
            left = self.left(inputs) * 2.0
            return self.add([left, self.right(left)])

    with IPUStrategy().scope():
        model = Model()
        model.build((2, 3))
        inbound = [item.inbound_layers for item in model.get_pipeline_stage_assignment()]
    assert inbound == [[], [model.left], [model.left, model.right]]


def test_a_stage_without_operations(k: Any, tmp_path: Path) -> None:
    with IPUStrategy().scope():
        model = k.Sequential(
            [k.layers.Input((6,)), k.layers.Dropout(0.5), k.layers.Dense(3), k.layers.Dropout(0.5)]
        )
        model.set_pipeline_stage_assignment([0, 1, 2])
    assert len(check_export(model, tmp_path / "m", random_array([2, 6]), batch_size=2)["stages"]) == 3


def test_extensions_module(k: Any) -> None:
    from tensorflow_ipu.keras import extensions

    assert k.ipu.extensions is extensions
    for name in ("functional", "sequential", "model"):
        module = __import__(f"{k.__name__}.ipu.extensions.{name}_extensions", fromlist=["PipelineStage"])
        assert module.PipelineStage is k.ipu.PipelineStage
    with IPUStrategy().scope():
        models = {kind: make(k, kind, [k.layers.Dense(2)]) for kind in KINDS}
    for kind, name in zip(KINDS, ("Functional", "Sequential", "Model"), strict=True):
        extension = getattr(extensions, f"{name}Extension")
        assert [isinstance(models[other], extension) for other in KINDS] == [other == kind for other in KINDS]
    assert not isinstance(make(k, "sequential", [k.layers.Dense(2)]), extensions.SequentialExtension)
