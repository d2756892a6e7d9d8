"""`deltabook sql --serve`: the published tables, views and functions over JDBC, by Spark's Thrift server."""

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

from deltabook.jobs.process.java import java_problem
from deltabook.jobs.process.limits import spark_problem, utf8_locale
from deltabook.jobs.queries.gateway import gateway
from deltabook.jobs.queries.views import RELATIONS, Relations
from deltabook.jobs.runtime.session import LOOPBACK, OPTIONS, delta_jars
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import Stored
from deltabook.schemas.errors import DeltabookError, SettingsError
from deltabook.udfs.storage.object_store import is_remote

_SERVER = "org.apache.spark.sql.hive.thriftserver.HiveThriftServer2"
_BIN = Path(pyspark.__file__).parent / "bin"
_PREFIX, _LOCK = "deltabook-serve-", ".lock"
_SET_PARENT_DEATH_SIGNAL = 1
"""Linux's PR_SET_PDEATHSIG."""
_START_SECONDS, _STOP_SECONDS, _LOOK_SECONDS = 120, 30, 2


class ServerError(DeltabookError):
    """The server did not start, or has ended; the text is the last that it said."""


def serve(
    settings: Settings, host: str, port: int, told: Callable[[str], None], unsafe: bool = False
) -> None:
    """Serve a warehouse until the process is interrupted; a newly published run is shown within seconds.

    Spark's server runs any statement. It listens on this machine, at a port of its own, and clients connect
    to the gateway, which passes on those that only read the warehouse.

    Parameters
    ----------
    settings : Settings
        The warehouse; master, memory and JARs of the server.
    host, port : str, int
        Where clients connect.
    told : callable
        Is told, once it is so, that clients can connect, and of each newer run.
    unsafe : bool
        Whether any statement passes.

    Raises
    ------
    WarehouseError
        If nothing was published yet.
    SettingsError
        If Java or Delta's JARs are missing, or the port is taken.
    ServerError
        If the server does not start, or ends.
    """
    root = settings.warehouse.absolute()
    shown = require_published(root)
    _require(settings, host, port)
    own_host, own_port = (host, port) if unsafe else (LOOPBACK, _free_port())
    address = f"jdbc:hive2://{own_host}:{own_port}/"
    with (
        own_folder() as folder,
        _server(settings, own_host, own_port, folder) as alive,
        nullcontext() if unsafe else gateway(host, port, own_port),
    ):
        named = _named_plainly(root, folder)
        _ask(address, _definitions(named, shown), folder)
        told(f"serving      {root} at jdbc:hive2://{host}:{port}/, until Ctrl-C")
        if not unsafe:
            told(
                "passing on   statements that only read it, from anybody. Not stopped: users of this machine "
                f"can reach Spark's own server at {LOOPBACK}:{own_port}, and do what you can"
            )
        while alive():
            time.sleep(_LOOK_SECONDS)
            if (newest := require_published(root)) != shown:
                _ask(address, _definitions(named, newest), folder)
                shown = newest
                told("serving      the run that was published just now")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


@contextmanager
def own_folder() -> Iterator[Path]:
    """Make a folder for the time of the block; those that killed servers have left are removed first.

    Yields
    ------
    Path
        The folder, locked by this process for as long as it lives.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Its lock is free only if the process that made it has gone. Others' folders are left alone.
        if (left / _LOCK).is_file() and left.stat().st_uid == os.getuid():
            with suppress(Timeout, OSError), FileLock(left / _LOCK, timeout=0):
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, FileLock(Path(name) / _LOCK):
        yield Path(name)


def _named_plainly(root: Path, folder: Path) -> Path:
    """Return a link to the warehouse: its path has no character that means something in SQL text."""
    if is_remote(root):
        return root
    link = folder / "warehouse"
    link.symlink_to(root, target_is_directory=True)
    return link


def ends_with_parent() -> Callable[[], None]:
    """Return what a child process has to call before it becomes another program, to end with its parent.

    The system then sends it SIGTERM as soon as the parent has gone, however that was killed; scripts that
    `exec` a program, as Spark's do, pass it on. Where a system cannot do that (Linux can), nothing is done.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    parent = os.getpid()

    def ask() -> None:
        # Ctrl-C at the terminal is for the command alone, which then ends its server.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        if prctl is not None:
            prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
            if os.getppid() != parent:  # it has gone already
                os._exit(1)

    return ask


def _require(settings: Settings, host: str, port: int) -> None:
    if problem := spark_problem(settings.driver_memory) or java_problem():
        raise SettingsError(problem)
    if not delta_jars(settings):
        raise SettingsError(
            "Delta's JARs were not fetched yet: run `make setup`, or name a folder with --jars"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(f"cannot listen on {host}:{port} ({error}): choose another --port") from None


@contextmanager
def _server(settings: Settings, host: str, port: int, folder: Path) -> Iterator[Callable[[], bool]]:
    """Run the server, once it listens; what is yielded tells whether it still runs, or raises."""
    jars = [str(jar) for jar in delta_jars(settings)]
    # The catalog is in the server's memory: what one of its sessions creates, all have, and nothing is left.
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
            preexec_fn=ends_with_parent(),
        )

    def alive() -> bool:
        if process.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise ServerError(f"the server has ended with status {process.returncode}: {last[0]}")
        return True

    try:
        deadline = time.monotonic() + _START_SECONDS
        while alive() and not _listens(host, port):
            if time.monotonic() > deadline:
                raise ServerError(f"the server does not listen after {_START_SECONDS} s")
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
    return os.environ | utf8_locale() | {"SPARK_HOME": str(_BIN.parent)}


def _definitions(root: Path, versions: dict[str, int]) -> str:
    """Return the SQL that creates every relation, for all sessions."""
    relations = Relations(Stored(root, versions))
    return "".join(f"{relations.statement(name, temporary=False)};\n" for name in relations.needed(RELATIONS))


def _ask(address: str, statements: str, folder: Path) -> None:
    script = folder / "definitions.sql"
    script.write_text(statements)
    found = subprocess.run(
        [str(_BIN / "beeline"), "-u", address, "--silent=true", "-f", str(script)],
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
        preexec_fn=ends_with_parent(),
    )
    if found.returncode:
        reasons = [line for line in found.stderr.splitlines() if line.startswith("Error")] or [found.stderr]
        raise ServerError(f"the views could not be created: {reasons[0].strip()}")
