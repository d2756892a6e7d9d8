"""Start a Spark standalone cluster on loopback. Its workers share only files with the driver.

The executors run a Python that has the dependencies of the project but not the project itself, in their own
folders.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyspark
from places import PROJECT
from servers import end, free_port, until

from deltabook.jobs.runtime.session import list_delta_jars
from deltabook.jobs.runtime.settings import load_settings

PROJECT = PROJECT
SPARK = Path(pyspark.__file__).parent
SUBMIT = SPARK / "bin" / "spark-submit"
PYFILES = PROJECT / "build" / "deltabook.zip"
LOCAL = ("spark.driver.host=127.0.0.1", "spark.driver.bindAddress=127.0.0.1")


def environment() -> dict[str, str]:
    """Variables of a machine where nobody has set any for Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYSPARK"))}
    return kept | {"SPARK_HOME": str(SPARK), "SPARK_LOCAL_IP": "127.0.0.1"}


def jars() -> str:
    """Delta's, as spark-submit wants them."""
    return ",".join(map(str, list_delta_jars(load_settings(None, {}))))


def bare_python(folder: Path) -> Path:
    """Make an environment with every dependency, but without deltabook; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text(f"{SPARK.parent}\n")
    python = folder / "bin" / "python"
    found = subprocess.run(
        [python, "-c", "import numba, deltabook"], cwd=folder, capture_output=True, text=True
    )
    assert "No module named 'deltabook'" in found.stderr
    return python


def packed(folder: Path) -> Path:
    """Pack an environment, for `--archives`."""
    archive = folder.with_suffix(".tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=1) as packing:
        packing.add(folder, ".")
    return archive


class Cluster:
    """A master and its workers, each with one core.

    Parameters
    ----------
    folder : Path
        Theirs.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.port = free_port()
        self.workers: list[subprocess.Popen] = []

    @property
    def master(self) -> str:
        return f"spark://127.0.0.1:{self.port}"

    @contextmanager
    def started(self, workers: int = 2):
        """Start the master and its workers, and end them."""
        with ExitStack() as ending:
            self._start(ending, "master", "master.Master", "--port", self.port)
            for number in range(workers):
                own = ("--cores", 1, "--memory", "2g", "--work-dir", self.folder / f"work-{number}")
                found = self._start(ending, f"worker-{number}", "worker.Worker", *own, self.master)
                self.workers.append(found)
            yield self

    def _start(self, ending: ExitStack, name: str, program: str, *options: object) -> subprocess.Popen:
        (home := self.folder / name).mkdir(parents=True)
        said = home / "said"
        with said.open("w") as told:
            process = subprocess.Popen(
                [
                    SPARK / "bin" / "spark-class",
                    f"org.apache.spark.deploy.{program}",
                    *("--host", "127.0.0.1", "--webui-port", "0"),
                    *map(str, options),
                ],
                env=environment(),
                cwd=home,
                stdout=told,
                stderr=subprocess.STDOUT,
            )
        ending.callback(end, process)
        ready = "I have been elected leader" if name == "master" else "Successfully registered with master"
        until(lambda: ready in said.read_text(), process)
        return process

    def submit(
        self, python: Path, arguments: Sequence[object], options: Sequence[object] = (), see: Callable = len
    ) -> tuple[int, str]:
        """Submit the job `run` as a package; return exit status and all that is said.

        Parameters
        ----------
        python : Path
            Of the driver and, unless `options` say otherwise, of executors.
        arguments, options : sequence
            The job's, and spark-submit's.
        see : callable
            Is told each line as it comes.
        """
        configured = [*LOCAL, f"spark.pyspark.python={python}", f"spark.pyspark.driver.python={python}"]
        process = subprocess.Popen(
            [
                *map(str, (SUBMIT, "--master", self.master, "--jars", jars(), "--py-files", PYFILES)),
                *(word for setting in configured for word in ("--conf", setting)),
                *("--executor-memory", "1g", *map(str, options)),
                *map(str, (PROJECT / "jobs" / "run.py", *arguments)),
            ],
            env=environment(),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        said = []
        with process.stdout as lines:
            for line in lines:
                said.append(line)
                see(line)
        return process.wait(), "".join(said)


def build_pyfiles() -> None:
    """Make the package that is sent to executors, as a user does."""
    subprocess.run(["make", "pyfiles"], cwd=PROJECT, check=True, capture_output=True)
