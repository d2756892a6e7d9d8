"""The code follows the rules for imports, file sizes, names, types and docstrings."""

import ast
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ["schemas", "udfs", "expectations", "jobs"]
"""Imports point from right to left."""
FORMER = {ROOT / "jobs" / f"{name}.py" for name in ("environment", "published", "replaying")}
"""Documented names of modules that have moved: each imports the current module and warns."""
MODULES = [path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py")) if path not in FORMER]
OUTSIDE_JOBS = [path for path in MODULES if path.relative_to(ROOT).parts[0] != "jobs"]
LONGEST_FILE = 460
FEWEST_FILES, MOST_FILES = 3, 16
"""Of a folder, with its `__init__.py`."""
MOST_FLOORS = 14
RETIRED = {
    "ahead",
    "again",
    "asking",
    "bits",
    "compile",
    "examining",
    "exported",
    "failing",
    "failures",
    "hours",
    "inspecting",
    "judge",
    "judging",
    "keeping",
    "ladder",
    "living",
    "mending",
    "orderflow",
    "placing",
    "recounting",
    "redacting",
    "relaying",
    "repeats",
    "replaying",
    "seeding",
    "staged",
    "staging",
    "stepping",
    "stretches",
    "taking",
    "telling",
    "thinning",
    "times",
    "totals",
    "trying",
    "watching",
    "writing",
}
"""Names of files that nobody could place; none comes back."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("deltabook", *parts)).removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way(path):
    layer = LAYERS.index(path.relative_to(ROOT).parts[0])
    for name in imports_of(path):
        if name.startswith("deltabook."):
            assert LAYERS.index(name.split(".")[1]) <= layer, f"{path} imports {name}"


def edges() -> dict[str, set[str]]:
    """Modules that each module imports, anywhere in it."""
    names = {name_of(path) for path in MODULES}
    found: dict[str, set[str]] = {}
    for path in MODULES:
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                of_module = {f"{node.module}.{alias.name}" for alias in node.names} & names
                imported |= of_module or {node.module}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        found[name_of(path)] = imported & names
    return found


def room_of(module: str) -> str:
    """A file's folder; the spark-submit scripts in `jobs` are rooms of their own."""
    is_script = module.startswith("deltabook.jobs.") and module.count(".") == 2
    return module if is_script else module.rpartition(".")[0]


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """How many steps down each node's imports go; a cycle is an error that names it."""
    heights: dict[str, int] = {}

    def height(node: str, above: tuple[str, ...]) -> int:
        assert node not in above, f"import cycle: {' -> '.join([*above, node])}"
        if node not in heights:
            heights[node] = 1 + max((height(one, (*above, node)) for one in sorted(graph[node])), default=0)
        return heights[node]

    for node in sorted(graph):
        height(node, ())
    return heights


def test_no_module_imports_itself_in_a_circle():
    floors(edges())


def test_folders_stand_on_few_floors_without_a_circle():
    graph: dict[str, set[str]] = {}
    for module, imported in edges().items():
        graph.setdefault(room_of(module), set()).update(room_of(one) for one in imported)
        for one in imported:
            graph.setdefault(room_of(one), set())
    graph = {room: below - {room} for room, below in graph.items()}
    assert max(floors(graph).values()) <= MOST_FLOORS


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_folders_are_of_a_size_to_be_seen_at_once(folder):
    files = len([*folder.glob("*.py")])
    is_root = folder.parent == ROOT
    assert (2 if is_root else FEWEST_FILES) <= files <= MOST_FILES, f"{folder}: {files} files"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_has_a_retired_name(path):
    assert path.stem not in RETIRED


@pytest.mark.parametrize("path", OUTSIDE_JOBS, ids=name_of)
def test_only_jobs_know_spark_sessions_and_files(path):
    source = path.read_text()
    assert "SparkSession" not in source
    assert not re.search(r"^\s*(import logging|from rich)", source, re.MULTILINE)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_uses_rdds_or_the_jvm_gateway(path):
    assert not re.search(r"\._jvm\b|\._jdf\b|\._jsparkSession\b|\.rdd\b|\.parallelize\(", path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_loads_what_could_run_code(path):
    assert not imports_of(path) & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert not re.search(r"allow_pickle=True|yaml\.load\(|[^.\w](eval|exec)\(|shell=True", path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


def test_nothing_beside_the_scripts_of_spark_submit_hides_a_module_of_python():
    """Python looks for modules in the folder of a script first."""
    names = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    names |= {path.parent.name for path in (ROOT / "jobs").glob("*/__init__.py")}
    assert not names & sys.stdlib_module_names


def public_functions():
    for path in MODULES:
        module = import_module(name_of(path))
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            if inspect.isclass(thing):
                for method_name, method in vars(thing).items():
                    if inspect.isfunction(method) and not method_name.startswith("_"):
                        yield f"{module.__name__}.{name}.{method_name}", method, True
            elif inspect.isfunction(thing) or hasattr(thing, "py_func"):
                typed = not hasattr(thing, "py_func")
                yield f"{module.__name__}.{name}", getattr(thing, "py_func", thing), typed


FUNCTIONS = list(public_functions())


@pytest.mark.parametrize(("name", "function", "typed"), FUNCTIONS, ids=[name for name, _, _ in FUNCTIONS])
def test_public_functions_are_typed_and_their_docstrings_name_their_parameters(name, function, typed):
    signature = inspect.signature(function)
    parameters = [parameter for parameter in signature.parameters if parameter not in ("self", "cls")]
    if typed:
        assert signature.return_annotation is not inspect.Signature.empty, name
        assert all(
            signature.parameters[parameter].annotation is not inspect.Parameter.empty
            for parameter in parameters
        )
    assert function.__doc__ or name.startswith("deltabook.udfs.sources") or ".FileSource." in name, name
    section = re.search(
        r"Parameters\n\s+-+\n(.*?)(\n\s*\n\s+\w+\n\s+-+\n|\Z)", function.__doc__ or "", re.DOTALL
    )
    if section:
        documented = {
            word.strip(" *`")
            for line in re.findall(r"^\s+([\w*, `]+) :", section[1], re.MULTILINE)
            for word in line.split(",")
        }
        assert documented == set(parameters), name


def test_no_machine_paths_or_registry_addresses():
    for path in [
        *MODULES,
        *ROOT.glob("*.toml"),
        *ROOT.glob("conf/*.yaml"),
        ROOT / "Makefile",
        ROOT / "README.md",
    ]:
        text = path.read_text()
        assert f"{Path.home()}/" not in text, path
        assert not re.search(r"https?://[^\s]*(pypi|maven|repo1)", text), path
