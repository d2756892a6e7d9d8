"""The command `sql --serve`: serve published tables, views and functions with Spark's JDBC server."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pyspark
from filelock import FileLock, Timeout

from deltabook.jobs.process.java import find_java_problem
from deltabook.jobs.process.limits import choose_utf8_locale, find_spark_problem
from deltabook.jobs.queries.gateway import run_gateway
from deltabook.jobs.queries.views import RELATIONS, Relations
from deltabook.jobs.runtime.session import LOOPBACK, OPTIONS, list_delta_jars
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import DeltabookError, SettingsError
from deltabook.udfs.storage.locations import is_remote

_SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
_BIN = Path(pyspark.__file__).parent / "bin"
_PREFIX, _LOCK = "deltabook-serve-", ".lock"
_SET_PARENT_DEATH_SIGNAL = 1
"""Linux's constant PR_SET_PDEATHSIG, for `prctl`."""
_START_SECONDS, _STOP_SECONDS, _LOOK_SECONDS = 120, 30, 2


class ServerError(DeltabookError):
    """Raised if the server did not start or has ended, or if the server's views could not be created."""


def serve(
    settings: Settings, host: str, port: int, report: Callable[[str], None], unsafe: bool = False
) -> None:
    """Serve a warehouse over JDBC until the process is interrupted.

    Newly published runs become visible within seconds. Spark's server runs any statement. For this reason,
    the server listens on a separate port that only this machine can reach, and clients connect to a gateway.
    The gateway forwards only statements that read the warehouse.

    Parameters
    ----------
    settings : Settings
        Settings with the address of the warehouse, and with Spark master, memory and JARs of the server.
    host, port : str, int
        Address to which clients connect.
    report : callable
        Function that shows one line to people. The function is called when clients can connect, and for each
        newly published run.
    unsafe : bool
        Whether clients connect directly to Spark's server, which runs any statement.

    Raises
    ------
    WarehouseError
        If no run has published yet.
    SettingsError
        If Java or Delta's JARs are missing, or if the port is in use.
    ServerError
        If the server does not start, or if the server ends.
    """
    root = settings.warehouse.absolute()
    shown = require_published(root)
    _check_requirements(settings, host, port)
    own_host, own_port = (host, port) if unsafe else (LOOPBACK, _free_port())
    address = f"jdbc:hive2://{own_host}:{own_port}/"
    with (
        make_server_folder() as folder,
        _run_server(settings, own_host, own_port, folder) as alive,
        nullcontext() if unsafe else run_gateway(host, port, own_port),
    ):
        linked = _link_warehouse(root, folder)
        _run_statements(address, _definitions(linked, shown), folder)
        report(f"serving      {root} at jdbc:hive2://{host}:{port}/, until Ctrl-C")
        if not unsafe:
            report(
                "passing on   statements that only read the warehouse, from any client. Not prevented: other "
                f"users of this machine can connect to Spark's own server at {LOOPBACK}:{own_port}, which "
                "runs any statement with your permissions"
            )
        _report_failed_hours(root, shown, report)
        while alive():
            time.sleep(_LOOK_SECONDS)
            if (newest := require_published(root)) != shown:
                _run_statements(address, _definitions(linked, newest), folder)
                shown = newest
                report("serving      the run that was published just now")
                _report_failed_hours(root, shown, report)


def _report_failed_hours(root: Path, versions: dict[str, int], report: Callable[[str], None]) -> None:
    """If symbol-hours failed validation, report how many symbol-hours the views leave out."""
    if failed := TableReader(root, versions).failed_chunks():
        report(
            f"leaving out  {len(failed):,} symbol-hours that failed validation, from book, book_wide and "
            "trades; failed_hours lists them"
        )


def _free_port() -> int:
    """Return a port of this machine that is not in use now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def make_server_folder() -> Iterator[Path]:
    """Create a temporary folder for the block, and remove folders that killed servers have left behind.

    Yields
    ------
    Path
        The new folder. A lock file in the folder is locked by this process until the block ends.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # The lock is free only if the process that made the folder has ended. Other users' folders remain.
        if (left / _LOCK).is_file() and left.stat().st_uid == os.getuid():
            with suppress(Timeout, OSError), FileLock(left / _LOCK, timeout=0):
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, FileLock(Path(name) / _LOCK):
        yield Path(name)


def _link_warehouse(root: Path, folder: Path) -> Path:
    """Create a symbolic link to the warehouse, and return the path of the link.

    The path of the link has no characters that are special in SQL. For a warehouse in an object store, no
    link is created, and the URI of the warehouse is returned.
    """
    if is_remote(root):
        return root
    link = folder / "warehouse"
    link.symlink_to(root, target_is_directory=True)
    return link


def end_with_parent() -> Callable[[], None]:
    """Return a function that a child process calls before `exec`, so that the child ends with its parent.

    After this call, Linux sends SIGTERM to the child as soon as the parent has ended, even if the parent was
    killed. The setting survives `exec`, which Spark's scripts use. On other systems, the child may outlive
    the parent.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    parent = os.getpid()

    def prepare() -> None:
        # The child ignores Ctrl-C at the terminal. The parent handles Ctrl-C, and then ends the child.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if prctl is not None:
            prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
            if os.getppid() != parent:  # the parent has ended already
                os._exit(1)

    return prepare


def _check_requirements(settings: Settings, host: str, port: int) -> None:
    """Raise an error if Spark, Java or Delta's JARs are missing, or if the port is in use."""
    if problem := find_spark_problem(settings.driver_memory) or find_java_problem():
        raise SettingsError(problem)
    if not list_delta_jars(settings):
        raise SettingsError("Delta's JARs are missing: run `make setup`, or choose a folder with --jars")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(f"cannot listen on {host}:{port} ({error}): choose another --port") from None


@contextmanager
def _run_server(settings: Settings, host: str, port: int, folder: Path) -> Iterator[Callable[[], bool]]:
    """Start the server, run the block when the server listens, and stop the server after the block.

    Yields a function that returns True while the server runs, and raises ServerError if the server has ended.
    """
    jars = [str(jar) for jar in list_delta_jars(settings)]
    # The catalog is in memory: all sessions share the views and functions, and nothing is left on the disk.
    options = OPTIONS | {
        "spark.driver.bindAddress": LOOPBACK,
        "spark.driver.host": LOOPBACK,
        "spark.driver.memory": settings.driver_memory,
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.warehouse.dir": str(folder / "tables"),
    }
    command = [
        *(str(_BIN / "spark-submit"), "--class", _SERVER, "--master", settings.master),
        *("--jars", ",".join(jars), "--driver-class-path", os.pathsep.join(jars)),
        *(word for name, value in options.items() for word in ("--conf", f"{name}={value}")),
        "spark-internal",
        *("--hiveconf", f"hive.server2.thrift.bind.host={host}"),
        *("--hiveconf", f"hive.server2.thrift.port={port}"),
    ]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=_environment(),
            preexec_fn=end_with_parent(),
        )

    def alive() -> bool:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["its log is empty"]
            raise ServerError(f"the server has ended with status {process.returncode}: {last[0]}")
        return True

    try:
        deadline = time.monotonic() + _START_SECONDS
        while alive() and not _listens(host, port):
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the server did not start within {_START_SECONDS} s: free memory or processors of this "
                    "machine, then run the command again"
                )
            time.sleep(0.2)
        yield alive
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _environment() -> dict[str, str]:
    """Return the environment variables for Spark's programs."""
    return os.environ | choose_utf8_locale() | {"SPARK_HOME": str(_BIN.parent)}


def _definitions(root: Path, versions: dict[str, int]) -> str:
    """Return the SQL that creates every table, view and function, for all sessions of the server."""
    relations = Relations(TableReader(root, versions))
    return "".join(f"{relations.statement(name, temporary=False)};\n" for name in relations.needed(RELATIONS))


def _run_statements(address: str, statements: str, folder: Path) -> None:
    """Run statements on the server, with Spark's command-line client `beeline`."""
    script = folder / "definitions.sql"
    script.write_text(statements)
    result = subprocess.run(
        [str(_BIN / "beeline"), "-u", address, "--silent=true", "-f", str(script)],
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
        preexec_fn=end_with_parent(),
    )
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error")] or [result.stderr]
        raise ServerError(f"the views could not be created: {errors[0].strip()}")
