"""The order of the packages: nothing imports what is built on it, and no two modules import each other."""

import ast
import graphlib
from pathlib import Path

import pytest

PACKAGE = "tensorflow_ipu"
ROOT = Path(__file__).parents[1] / "python" / PACKAGE
# Each may import those before it. Modules that belong to no package are foundations or, with the command
# line, public faces.
FOUNDATIONS = {
    "_native",
    "_runtime",
    "device_plugins",
    "engines",
    "errors",
    "executable_signature",
    "gradient_accumulation",
    "integers",
    "ipu_strategy",
    "local_path",
    "module_alias",
    "not_provided",
    "ops_registration",
}
ORDER = ["foundations", "config", "progress", "lowering", "program", "export", "keras", "faces"]


def layer(module: str) -> str:
    """The layer of a module, by its name below the package."""
    head = module.partition(".")[0]
    return head if head in ORDER else "foundations" if head in FOUNDATIONS else "faces"


def read_modules(root: Path) -> dict[str, ast.Module]:
    """All modules, by their names below the package; a package is its __init__."""
    modules = {}
    for path in [*root.rglob("*.py"), *root.rglob("*.pyi")]:
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        modules[name] = ast.parse(path.read_text())
    return modules


def imports(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """What each module imports of the others: at its top, in functions, and for types alone."""

    def own(absolute: str) -> str | None:
        return absolute.removeprefix(PACKAGE).removeprefix(".") if absolute.split(".")[0] == PACKAGE else None

    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, tree in modules.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                targets = [own(alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{name}: a relative import"
                source = own(node.module or "")
                if source is None:
                    continue
                parts = [f"{source}.{alias.name}".lstrip(".") for alias in node.names]
                targets = [part if part in modules else source for part in parts]
            else:
                continue
            found[name] |= {target for target in targets if target}  # the root holds names only
    return found


def violations(graph: dict[str, set[str]]) -> list[str]:
    """Imports of a module against the order."""
    return [
        f"{module} ({layer(module)}) imports {target} ({layer(target)})"
        for module, targets in sorted(graph.items())
        if module
        for target in sorted(targets)
        if ORDER.index(layer(target)) > ORDER.index(layer(module))
    ]


def test_imports_keep_the_order_of_the_packages() -> None:
    graph = imports(read_modules(ROOT))
    assert "program.program" in graph["program.compile"]
    assert violations(graph) == []


def test_no_two_modules_import_each_other() -> None:
    graph = imports(read_modules(ROOT))
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    "text",
    [
        "import tensorflow_ipu.serving",
        "from tensorflow_ipu import serving",
        "from tensorflow_ipu.serving import export_keras",
        "def later():\n    from tensorflow_ipu import serving",
        "if TYPE_CHECKING:\n    from tensorflow_ipu.serving import export_keras",
    ],
)
def test_an_import_against_the_order_or_a_circle_is_found(text: str) -> None:
    modules = {
        "": ast.parse(""),
        "export.stages": ast.parse(text),
        "serving": ast.parse("from tensorflow_ipu.export.stages import export_stages"),
    }
    graph = imports(modules)
    assert violations(graph) == ["export.stages (export) imports serving (faces)"]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(graph).prepare()
