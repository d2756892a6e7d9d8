"""`import deltabook` loads little. Every public name has a docstring, every public function an example."""

from __future__ import annotations

import doctest
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import deltabook

HEAVY = ("pyspark", "py4j", "numba", "numpy", "pandas", "pyarrow", "deltalake", "pydantic", "typer", "rich")
MODULES = (
    "agent_environment",
    "exact_numbers",
    "failed_chunks",
    "pipeline_run",
    "result",
    "row_selection",
    "table_views",
    "time_range",
    "warehouse_reader",
    "warehouse_tables",
)
FORMER_MODULES = {
    "deltabook.jobs.replaying": "Replayer",
    "deltabook.jobs.environment": "BookEnvironment",
    "deltabook.jobs.published": "published_table",
}


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_loads_no_other_package() -> None:
    code = f"import sys, deltabook; print([name for name in {HEAVY} if name in sys.modules])"
    assert run_python(code) == "[]"


def test_import_loads_one_module_of_its_own() -> None:
    code = "import sys, deltabook; print([name for name in sys.modules if name.startswith('deltabook')])"
    assert run_python(code) == "['deltabook']"


@pytest.mark.parametrize(
    ("name", "unloaded"), [("open", ("pyspark", "great_expectations")), ("Status", HEAVY)]
)
def test_a_name_loads_only_what_it_needs(name: str, unloaded: tuple[str, ...]) -> None:
    code = (
        f"import sys, deltabook; deltabook.{name}; print([one for one in {unloaded} if one in sys.modules])"
    )
    assert run_python(code) == "[]"


@pytest.mark.parametrize("name", deltabook.__all__)
def test_every_public_name_exists_and_is_listed(name: str) -> None:
    assert getattr(deltabook, name) is not None
    assert name in dir(deltabook)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deltabook.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [name for name in deltabook.__all__ if name != "__version__"])
def test_every_public_name_has_a_docstring(name: str) -> None:
    assert (getattr(deltabook, name).__doc__ or "").strip()


def public_callables() -> Iterator[tuple[str, Any]]:
    for module_name in MODULES:
        module = importlib.import_module(f"deltabook.{module_name}")
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(thing):
                yield f"{module_name}.{name}", thing
            elif inspect.isclass(thing):
                for method_name, method in vars(thing).items():
                    if inspect.isfunction(method) and not method_name.startswith("_"):
                        yield f"{module_name}.{name}.{method_name}", method


@pytest.mark.parametrize(
    ("name", "function"), [*public_callables()], ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_public_function_has_an_example(name: str, function: Any) -> None:
    assert ">>> " in (function.__doc__ or ""), name


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(f"deltabook.{name}"))
    assert outcome.failed == 0


@pytest.mark.parametrize(("module", "name"), FORMER_MODULES.items())
def test_former_modules_still_import_and_warn(
    module: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.warns(DeprecationWarning, match="has moved"):
        assert hasattr(importlib.import_module(module), name)
