"""The packaged jobs give the same books on a cluster that loses a worker, and with Spark Connect."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from captures import simulated_lines, write
from cluster import LOCAL, PYFILES, SUBMIT, Cluster, bare_python, build_pyfiles, environment, jars, packed
from conftest import invoke
from crashing import state
from servers import end, free_port, until

from deltabook.expectations.suites import SUITES
from deltabook.jobs.runtime.session import OPTIONS

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    build_pyfiles()
    return bare_python(tmp_path_factory.mktemp("bare") / "environment")


@pytest.fixture(scope="module")
def captured(spark, tmp_path_factory):
    """Raw files of two symbols, and the warehouse that a local session makes of them."""
    folder = tmp_path_factory.mktemp("captured")
    for name, seed in (("BTCUSDT", 3), ("ETHUSDT", 4)):
        write(folder / "raw" / f"{name}.gz", simulated_lines(400, "spot", name, seed))
    assert invoke("run", "binance", folder / "raw", "--warehouse", folder / "w").exit_status == 0
    return folder / "raw", state(folder / "w")


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path / "cluster").started() as found:
        yield found


class Killing:
    """Kills a worker with its executor, once the first task of a stage has gone to it."""

    def __init__(self, cluster: Cluster, after: str):
        self.cluster = cluster
        self.after = after
        self.is_due = False
        self.killed = 0

    def __call__(self, line: str) -> None:
        self.is_due |= line.startswith(self.after)
        if self.is_due and not self.killed and "TaskSetManager: Starting task" in line:
            named = line.split("executor ")[1].split(",")[0]
            for worker in self.cluster.workers:
                ran = psutil.Process(worker.pid).children() if worker.poll() is None else []
                ran = [one for one in ran if one.status() != psutil.STATUS_ZOMBIE]
                if any(("--executor-id", named) in pairwise(one.cmdline()) for one in ran):
                    end(worker)
                    self.killed += 1


@pytest.mark.parametrize(
    ("after", "sent"),
    [
        pytest.param("checking", False, id="as it rebuilds"),
        pytest.param("scanning", True, id="as it orders", marks=pytest.mark.long),
    ],
)
def test_a_worker_lost_in_mid_run_changes_no_byte(cluster, python, captured, tmp_path, after, sent):
    """Executors run an interpreter of their machine, or one that is sent to them."""
    raw, expected = captured
    kill = Killing(cluster, after)
    command = ("binance", raw, "--warehouse", tmp_path / "w", "--json")
    archive = ("--archives", f"{packed(python.parents[1])}#sent") if sent else ()
    other = ("--conf", "spark.pyspark.python=./sent/bin/python") if sent else ()
    status, said = cluster.submit(python, command, (*archive, *other), kill)
    assert (status, kill.killed) == (0, 1), said[-4000:]
    assert "Lost executor" in said
    assert "deltabook.zip/deltabook/jobs" in said  # the package that was sent, not this checkout
    summary = next(json.loads(line) for line in said.splitlines() if line.startswith("{"))
    assert summary["verdicts"] == dict.fromkeys(SUITES, "passed")
    assert bool(list(cluster.folder.glob("work-*/app-*/*/sent/bin/python"))) == sent
    assert state(tmp_path / "w") == expected


def test_kernels_are_compiled_once_wherever_the_package_lies(python, tmp_path):
    """Each application of each executor has the package in another folder."""
    program = (
        "import numpy as np; from deltabook.udfs.orderbook.bitmaps import lowest_bit; "
        "lowest_bit(np.ones(1, np.uint64)); "
        "print(sum(lowest_bit.stats.cache_hits.values()), lowest_bit.py_func.__code__.co_filename)"
    )
    kept = environment() | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels")}
    for name, hits in (("one", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        package = shutil.copy(PYFILES, tmp_path / name)
        told = subprocess.run(
            [python, "-c", program],
            env=kept | {"PYTHONPATH": package},
            capture_output=True,
            text=True,
            check=True,
        )
        assert told.stdout.split() == [str(hits), f"{package}/deltabook/udfs/orderbook/bitmaps.py"]


def test_spark_connect_has_the_same_books(captured, tmp_path):
    raw, expected = captured
    port, said = free_port(), tmp_path / "said"
    options = OPTIONS | {"spark.connect.grpc.binding.port": str(port)}
    settings = [*LOCAL, *(f"{name}={value}" for name, value in options.items())]
    with said.open("w") as lines:
        server = subprocess.Popen(
            [
                *map(str, (SUBMIT, "--master", "local[2]", "--jars", jars())),
                *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer"),
                *(word for setting in settings for word in ("--conf", setting)),
                "spark-internal",
            ],
            env=environment() | {"PYSPARK_PYTHON": sys.executable},
            cwd=tmp_path,
            stdout=lines,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "Spark Connect server started" in said.read_text(), server)
        deltabook = Path(sys.executable).with_name("deltabook")
        how = ("--warehouse", tmp_path / "w", "--master", f"sc://127.0.0.1:{port}")
        command = [deltabook, "run", "binance", raw, *how]
        client = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert client.returncode == 0, client.stderr
        assert state(tmp_path / "w") == expected
    finally:
        end(server)


def test_a_connect_server_that_is_not_there_is_sound(tmp_path):
    deltabook = Path(sys.executable).with_name("deltabook")
    how = ("--warehouse", tmp_path / "w", "--master", f"sc://127.0.0.1:{free_port()}")
    asked = subprocess.run([deltabook, "reconstruct", *how], capture_output=True, text=True, check=False)
    assert asked.returncode == 2
    assert (
        "Connection refused. Remedy: check that a server of this Spark version listens there" in asked.stderr
    )
