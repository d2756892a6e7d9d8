"""The one place that builds a Spark session."""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from pyspark import SparkConf
from pyspark.accumulators import AccumulatorTCPServer, AccumulatorUnixServer
from pyspark.sql import SparkSession

from deltabook.jobs.process.error_causes import cause_of, has_jvm_died, message_of
from deltabook.jobs.process.interruptions import is_interrupted, reinstall
from deltabook.jobs.process.java import java_options, java_problem
from deltabook.jobs.process.limits import spark_problem, utf8_locale
from deltabook.jobs.process.memory import child_processes
from deltabook.jobs.runtime.disk_errors import SPARKS_OWN
from deltabook.jobs.runtime.jvm_output import relayed
from deltabook.jobs.runtime.settings import Settings
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.object_store import is_remote
from deltabook.udfs.storage.worker_errors import disk_problem

DAEMON = "deltabook.udfs.spark.daemon"
"""Module by which Spark starts Python workers, where sessions are local."""

LOOPBACK = "127.0.0.1"
_CONNECT, _CONNECT_PORT = "sc://", 15002
_OF_SESSIONS = (
    "spark.sql.session.",
    "spark.sql.execution.",
    "spark.sql.files.",
    "spark.sql.shuffle.",
    "spark.sql.parquet.",
    "spark.databricks.delta.",
)
"""Of `OPTIONS`, what a client may set; the others are the server's."""
_COMPLETE = "complete"
_FATAL = re.compile(
    r"Could not|Cannot|cannot|insufficient memory|OutOfMemoryError|Too many open files|Unrecognized"
)
"""What a JVM that cannot start prints."""
_NOT_READY = "JAVA_GATEWAY_EXITED"
_MACHINE = (
    "Lower driver_memory, or raise the limits of this process (ulimit -v, ulimit -n, its control group)"
)
_SHIPPED_WITH_PYSPARK = (
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.apache.parquet:parquet-hadoop",
    "org.apache.logging.log4j:log4j-api",
    "org.apache.logging.log4j:log4j-core",
    "org.apache.logging.log4j:log4j-slf4j2-impl",
    "org.slf4j:slf4j-api",
    "org.roaringbitmap:RoaringBitmap",
    "org.roaringbitmap:shims",
    "com.fasterxml.jackson.core:jackson-annotations",
    "com.fasterxml.jackson.core:jackson-core",
    "com.fasterxml.jackson.core:jackson-databind",
    "com.google.code.findbugs:jsr305",
    "com.github.luben:zstd-jni",
    "org.xerial.snappy:snappy-java",
    "software.amazon.awssdk:bundle",
)
"""Excluded from the fetch of Delta's JARs: the Hadoop client alone would be 50 MB, all of AWS 640."""
_S3A = [
    "org.apache.hadoop:hadoop-aws:3.4.2",
    *(f"software.amazon.awssdk:{name}:2.29.52" for name in ("s3", "s3-transfer-manager", "sts")),
]
"""How Spark reads an object store: Hadoop's version is PySpark's, AWS's the one it was built with."""


OPTIONS = {
    # Delta's SQL and its tables by path.
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Dates and shown times must not depend on the machine.
    "spark.sql.session.timeZone": "UTC",
    # Frames from and to Python travel as Arrow; without it, value by value through pickle.
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # A lossy conversion to Arrow must be an error.
    "spark.sql.execution.pandas.convertToArrowArraySafely": "true",
    # Damaged files must fail: silence lost 98,994 of 200,000 rows in a test.
    "spark.sql.files.ignoreCorruptFiles": "false",
    # Level changes compress four times; level 1 is within 5 % of level 3 at half the time.
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.compression.codec.zstd.level": "1",
    # A shuffle here moves references, not payload: Spark's 200 tasks would be 200 empty ones.
    "spark.sql.shuffle.partitions": "8",
    # What Spark passes from task to task: LZ4's decoder, as it is shipped with Spark, has published faults.
    "spark.io.compression.codec": "zstd",
    # A Delta log of this size is replayed by two tasks faster than by the default 50.
    "spark.databricks.delta.snapshotPartitions": "2",
    # Spark SQL's own tables are not used; without this it makes a folder wherever it is started.
    "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "deltabook-spark-warehouse"),
    # The command line has a progress display of its own, and starts faster without the web UI.
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.enabled": "false",
    # A worker process that has loaded the kernels serves the next task too.
    "spark.python.worker.reuse": "true",
    # Workers that give back what they no longer hold (measured on 8 hours of 8 M rows: 10 % less memory
    # than with Arrow's own choice, at the same speed).
    "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": "jemalloc",
}
"""Of every session, whoever starts it."""


def spark_session(settings: Settings, for_queries: bool = False) -> SparkSession:
    """Return the Spark session of this process.

    Under spark-submit, and in a notebook that has a session, that one is used: its master and JARs
    are what it was started with. A master `sc://…` is a Spark Connect server, which has its own. Otherwise
    a session is made.

    Parameters
    ----------
    settings : Settings
        Master, memory and where the JARs are.
    for_queries : bool
        Whether a JVM that is started here runs long queries, rather than jobs.

    Returns
    -------
    SparkSession
        With Delta, in UTC.

    Raises
    ------
    SettingsError
        If Java or Delta's JARs are missing.
    """
    if active := SparkSession.getActiveSession():
        return active
    if settings.master.startswith(_CONNECT):
        return _connected(settings.master)
    builder = SparkSession.builder.appName("deltabook")
    for name, value in (OPTIONS | _of_store(settings)).items():
        builder = builder.config(name, value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit has started the JVM
        return _start(
            _with_workers(builder, str(SparkConf().get("spark.master"))),
            "start spark-submit with --packages or --jars for io.delta:delta-spark_4.1_2.13",
        )
    if problem := spark_problem(settings.driver_memory) or java_problem():
        raise SettingsError(problem)
    os.environ |= utf8_locale()
    # Workers and the planning of Python data sources must be this interpreter, not the PATH's python3.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = _with_workers(builder, settings.master)
    builder = builder.master(_retrying(settings.master)).config("spark.driver.memory", settings.driver_memory)
    log4j = Path(str(files("deltabook.conf").joinpath("log4j2.properties"))).as_uri()
    options = f"-Dlog4j2.configurationFile={log4j} {java_options(for_queries)}"
    builder = builder.config("spark.driver.extraJavaOptions", options)
    if jars := delta_jars(settings):
        named = ",".join(map(str, jars))
        return _start(builder.config("spark.jars", named), f"check the JARs in {jars[0].parent}")
    cache = _cache_folder(settings)
    packages = _S3A if is_remote(settings.warehouse) else []
    session = _start(
        _fetching(builder, cache, packages), "Delta's JARs could not be fetched; name a folder with --jars"
    )
    (cache / _COMPLETE).touch()
    return session


def delta_jars(settings: Settings) -> list[Path]:
    """List Delta's JARs; none if they were not fetched yet.

    Parameters
    ----------
    settings : Settings
        May name a folder of them.

    Raises
    ------
    SettingsError
        If that folder has none.
    """
    cache = _cache_folder(settings)
    folder = settings.jars if settings.jars is not None else cache / "jars"
    jars = sorted(folder.glob("*.jar"))
    found = any("delta-spark" in jar.name for jar in jars)
    if settings.jars is not None and not found:
        raise SettingsError(f"no delta-spark JAR in {folder}: expected Delta {version('delta-spark')}'s JARs")
    return jars if found and (settings.jars is not None or (cache / _COMPLETE).exists()) else []


def _connected(master: str) -> SparkSession:
    """Return a session of a Spark Connect server."""
    remedy = (
        "see that a server of this Spark version listens there, with Delta's JARs and extensions, and "
        "install deltabook[connect] here"
    )
    address = urlsplit(master)
    try:  # the client would go on trying for minutes
        socket.create_connection((address.hostname or "", address.port or _CONNECT_PORT), 10).close()
    except OSError as error:
        raise SettingsError(f"--master {master}: {error.strerror or error}. Remedy: {remedy}") from error
    builder = SparkSession.builder.remote(master)
    for name, value in OPTIONS.items():
        if name.startswith(_OF_SESSIONS):
            builder = builder.config(name, value)
    return _start(builder, remedy)


def _retrying(master: str) -> str:
    """Return a local master that tries a task twice: a worker that dies must not end the run."""
    found = re.fullmatch(r"local(?:\[(\d+|\*)\])?", master)
    return f"local[{found[1] or 1},2]" if found else master


def _with_workers(builder: SparkSession.Builder, master: str) -> SparkSession.Builder:
    """Set how Spark and its Python workers meet, where both are on this machine.

    Measured on a task that does nothing: 80 ms by default, 35 without the search for garbage that
    `udfs.daemon` prevents, 15 if besides they speak through a Unix socket, which delays no small message.
    """
    if not master.startswith("local"):
        return builder
    # Nothing outside this machine has a part in it.
    builder = builder.config("spark.driver.bindAddress", LOOPBACK).config("spark.driver.host", LOOPBACK)
    builder = builder.config("spark.python.daemon.module", DAEMON)
    return builder.config("spark.python.unix.domain.socket.enabled", "true")


def _fetching(builder: SparkSession.Builder, cache: Path, packages: list[str]) -> SparkSession.Builder:
    from delta import configure_spark_with_delta_pip

    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"Delta's JARs are not in {cache}, which cannot be made ({error.strerror}): name a folder of "
            "them with --jars, or one for caches in XDG_CACHE_HOME"
        ) from None
    builder = builder.config("spark.jars.ivy", str(cache))
    builder = builder.config("spark.jars.excludes", ",".join(_SHIPPED_WITH_PYSPARK))
    configured: SparkSession.Builder = configure_spark_with_delta_pip(builder, packages)
    return configured


def _cache_folder(settings: Settings) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"delta-{version('delta-spark')}" + ("-s3a" if is_remote(settings.warehouse) else "")
    return Path(base) / "deltabook" / name


def _of_store(settings: Settings) -> dict[str, str]:
    """Tell Spark where the object store of a warehouse is; who may reach it, it finds as other clients do."""
    if not is_remote(settings.warehouse):
        return {}
    told = {"fs.s3a.endpoint.region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        told |= {"fs.s3a.endpoint": endpoint, "fs.s3a.path.style.access": "true"}
    return {f"spark.hadoop.{name}": value for name, value in told.items() if value}


# PySpark prints every failed query as JSON, and like py4j a traceback of each connection that it loses; the
# command line tells the error itself.
for _name in ("SQLQueryContextLogger", "py4j.java_gateway", "py4j.clientserver"):
    logging.getLogger(_name).disabled = True
for _server in (AccumulatorTCPServer, AccumulatorUnixServer):
    _server.handle_error = lambda *_: None  # type: ignore[method-assign]
logging.root.addFilter(lambda record: Path(record.pathname).parent.name != "py4j")


def _start(builder: SparkSession.Builder, remedy: str) -> SparkSession:
    """Start a session; what its JVM prints meanwhile tells the cause if it does not start."""
    before = child_processes()
    with relayed() as relay:
        try:
            session = builder.getOrCreate()
            session.sql("SELECT 1").collect()
            session.conf.get("spark.databricks.delta.snapshotPartitions")
        except BaseException as error:
            _end(child_processes() - before)
            if not isinstance(error, Exception) or is_interrupted():
                raise
            if told := disk_problem(error, SPARKS_OWN) or next(filter(None, map(_full, relay.kept)), ""):
                raise SettingsError(f"Spark did not start: {told}") from error
            if printed := next((line for line in relay.kept if _FATAL.search(line)), ""):
                raise SettingsError(f"Spark did not start: {printed}. {_MACHINE}") from error
            if has_jvm_died(error):
                raise SettingsError(f"Spark did not start: {message_of(error)[0]}") from error
            if _NOT_READY in str(error):
                last = f": {relay.kept[-1]}" if relay.kept else " and printed nothing"
                raise SettingsError(f"Spark did not start: its JVM ended{last}. {_MACHINE}") from error
            reason = cause_of(str(error)) or type(error).__name__
            raise SettingsError(f"Spark did not start: {reason}. Remedy: {remedy}") from error
        finally:
            reinstall()
    return session


def _end(processes: set[int]) -> None:
    """End a JVM whose start was given up: it would go on waiting for this process."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)


def _full(line: str) -> str:
    return disk_problem(OSError(line), SPARKS_OWN)
