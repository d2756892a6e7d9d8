"""A wheel or zip of deltabook has all modules, and reads a warehouse in an environment without Spark."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from places import PROJECT, TESTS

PROGRAM = """
import sys, warnings
import deltabook
assert not {"pyspark", "numba", "pandas", "pyarrow"} & {*sys.modules}, "the import is not light"
warnings.simplefilter("ignore", deltabook.FailedChunksWarning)
warehouse = deltabook.open(sys.argv[1])
book = warehouse.book_at("BTC-USDT")
rows, seen = warehouse.books("BTC-USDT"), next(iter(warehouse.replay("BTC-USDT")))
assert "pyspark" not in sys.modules
print(deltabook.__version__, len(rows), book.bids[0][0], seen.status.label, deltabook.__file__)
"""
EXPECTED = ["0.1.0", "51", "61837.09000000", "unseeded"]
WITHOUT_SPARK = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {packages}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""
SPARK = {"arch", "delta", "great_expectations", "powerlaw", "py4j", "pyspark", "sqlglot"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy of the sources: pip leaves its own files beside them.
    copy = folder / "deltabook"
    for path in tracked_files():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        (copy / path).write_bytes((PROJECT / path).read_bytes())
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(copy))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("warehouse")
    with tarfile.open(TESTS / "data" / "warehouse.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "w"


def tracked_files() -> list[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    folders = ("conf", "expectations", "jobs", "schemas", "udfs", "pyproject.toml", "README.md", "LICENSE")
    done = subprocess.run([*command, *folders], cwd=PROJECT, capture_output=True, text=True, check=True)
    return [path for path in done.stdout.splitlines() if (PROJECT / path).is_file()]


def pip(*arguments: str, python: Path | str = sys.executable) -> None:
    command = [str(python), "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(command: Sequence[object], folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"} | variables
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_has_the_public_package_once_and_no_benchmarks(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {"deltabook/__init__.py", "deltabook/py.typed", "deltabook/jobs/__init__.py"} <= {*names}
    assert "deltabook/conf/deltabook.yaml" in names
    assert not [name for name in names if name.startswith(("deltabook/jobs/api", "deltabook/benchmarks"))]


def test_the_wheel_has_every_module(wheel: Path) -> None:
    folders = ("conf", "expectations", "jobs", "schemas", "udfs")
    modules = {path for path in tracked_files() if path.endswith(".py") and path.startswith(folders)}
    expected = {
        f"deltabook/{path.removeprefix('jobs/api/')}"
        for path in modules
        if not path.startswith("conf/schedules")
    }
    assert expected == {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}


@pytest.mark.parametrize("is_unpacked", [True, False], ids=["folder", "zip"])
def test_an_unpacked_wheel_and_a_zip_read_a_warehouse_without_spark(
    wheel: Path, warehouse: Path, tmp_path: Path, is_unpacked: bool
) -> None:
    place = tmp_path / "deltabook.zip"
    if is_unpacked:
        place = tmp_path / "packages"
        zipfile.ZipFile(wheel).extractall(place)
    else:
        place.write_bytes(wheel.read_bytes())
    program = WITHOUT_SPARK.format(packages=SPARK) + PROGRAM
    done = run([sys.executable, "-c", program, warehouse], tmp_path, PYTHONPATH=str(place))
    assert done.returncode == 0, done.stderr
    *shown, file = done.stdout.split()
    assert shown == EXPECTED
    assert file.startswith(str(place))


@pytest.mark.parametrize(
    "arguments",
    [("run", "binance", "{0}"), ("sql", "SELECT 1"), ("maintain",)],
    ids=["run", "sql", "maintain"],
)
def test_commands_that_need_spark_name_the_extra(
    wheel: Path, warehouse: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    program = WITHOUT_SPARK.format(packages=SPARK) + "from deltabook.jobs.cli.program import main; main()"
    (tmp_path / "captures").mkdir()
    (tmp_path / "captures/btcusdt.json").write_text("{}\n")
    words = [word.format(tmp_path / "captures") for word in arguments]
    command = [sys.executable, "-c", program, *words, "--warehouse", warehouse]
    done = run(command, tmp_path, PYTHONPATH=str(wheel))
    assert (done.returncode, done.stdout) == (2, "")
    assert "not installed: pip install 'deltabook[spark]'" in " ".join(done.stderr.split())
    assert len(done.stderr.strip().splitlines()) == 1


def test_every_dependency_of_the_extras_has_a_tested_version() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = [*project["dependencies"], *(name for key in extras if key != "dev" for name in extras[key])]
    wanted = {name.split("[")[0].split(">")[0].lower() for name in names} - {"deltabook"}
    lines = (PROJECT / "conf" / "constraints.txt").read_text().splitlines()
    tested = {line.split("==")[0].lower() for line in lines if not line.startswith("#")}
    assert wanted == tested


@pytest.mark.long
def test_an_empty_environment_has_all_that_reading_needs(
    wheel: Path, warehouse: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip("install", "--constraint", str(PROJECT / "conf" / "constraints.txt"), str(wheel), python=python)
    done = run([python, "-c", PROGRAM, warehouse], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:4] == EXPECTED
    deltabook = tmp_path / "venv" / "bin" / "deltabook"
    assert run([deltabook, "--version"], tmp_path).stdout.strip().endswith("0.1.0")
    for command in ("status", "report"):
        done = run([deltabook, command, "--warehouse", warehouse], tmp_path)
        assert done.returncode == 0, done.stderr
    done = run([deltabook, "run", "binance", warehouse, "--warehouse", tmp_path / "w"], tmp_path)
    assert (done.returncode, "deltabook[spark]" in done.stderr) == (2, True)
