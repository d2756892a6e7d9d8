"""Start the Spark session of this process, with deltabook's options and Delta's JARs."""

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

from deltabook.jobs.console.logging import show_message
from deltabook.jobs.process.error_causes import describe_error, find_cause, has_jvm_died
from deltabook.jobs.process.interruptions import is_interrupted, reinstall_handlers
from deltabook.jobs.process.java import find_java_problem, format_java_options
from deltabook.jobs.process.limits import choose_utf8_locale, find_spark_problem
from deltabook.jobs.process.memory import list_child_processes
from deltabook.jobs.runtime.disk_errors import SPARK_TEMP_FOLDER
from deltabook.jobs.runtime.jvm_output import relay_stderr
from deltabook.jobs.runtime.settings import Settings
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.storage.locations import is_remote
from deltabook.udfs.storage.worker_errors import describe_disk_problem

DAEMON = "deltabook.udfs.spark.daemon"
"""Module that Spark runs in local mode to fork the Python workers."""

LOOPBACK = "127.0.0.1"
_CONNECT, _CONNECT_PORT = "sc://", 15002
_SESSION_PREFIXES = (
    "spark.sql.session.",
    "spark.sql.execution.",
    "spark.sql.files.",
    "spark.sql.shuffle.",
    "spark.sql.parquet.",
    "spark.databricks.delta.",
)
"""Prefixes of those `OPTIONS` that a Spark Connect client may set. The server sets all other options."""
_COMPLETE = "complete"
"""File in the cache that is created when all of Delta's JARs were fetched."""
_FATAL = re.compile(
    r"Could not|Cannot|cannot|insufficient memory|OutOfMemoryError|Too many open files|Unrecognized"
)
"""Words by which to find the line with the cause in the output of a JVM that cannot start."""
_NOT_READY = "JAVA_GATEWAY_EXITED"
"""Text in PySpark's error if the JVM ended before it was ready."""
_MORE_RESOURCES = (
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
"""Dependencies of Delta's JARs that are not fetched, because PySpark includes them or nothing uses them.

The Hadoop client would add 50 MB, and the bundle of all AWS clients 640 MB.
"""
_S3A = [
    "org.apache.hadoop:hadoop-aws:3.4.2",
    *(f"software.amazon.awssdk:{name}:2.29.52" for name in ("s3", "s3-transfer-manager", "sts")),
]
"""JARs with which Spark reads an object store.

`hadoop-aws` has the version of the Hadoop client that PySpark ships. The AWS clients have the version with
which this version of Hadoop was built.
"""


OPTIONS = {
    # Enable Delta's SQL commands, and reading Delta tables by path.
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    # Dates and shown times must not depend on the machine.
    "spark.sql.session.timeZone": "UTC",
    # Data frames pass between Spark and Python as Arrow. Without Arrow, they pass value by value as pickles.
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # A lossy conversion to Arrow must be an error.
    "spark.sql.execution.pandas.convertToArrowArraySafely": "true",
    # A damaged file must be an error. When damaged files were ignored, a test lost 98,994 of 200,000 rows.
    "spark.sql.files.ignoreCorruptFiles": "false",
    # Zstandard makes files of level changes four times smaller. Its setting 1 needs half the time of its
    # setting 3, and the files are at most 5 % larger.
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.hadoop.parquet.compression.codec.zstd.level": "1",
    # The jobs shuffle only references to files, not rows. Most of Spark's 200 default tasks would be empty.
    "spark.sql.shuffle.partitions": "8",
    # Codec of the data that Spark passes between tasks. The default is LZ4, but the LZ4 decoder that Spark
    # ships has published vulnerabilities.
    "spark.io.compression.codec": "zstd",
    # Two tasks read the Delta log of a table of a warehouse faster than the default 50 tasks.
    "spark.databricks.delta.snapshotPartitions": "2",
    # Spark SQL's own tables are not used. Without this option, Spark creates a folder for them in the current
    # directory.
    "spark.sql.warehouse.dir": str(Path(tempfile.gettempdir()) / "deltabook-spark-warehouse"),
    # The command line has its own progress display, and starts faster without Spark's web UI.
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.enabled": "false",
    # Reuse worker processes for later tasks, because they have already loaded the compiled kernels.
    "spark.python.worker.reuse": "true",
    # With jemalloc, workers return free memory to the system. Measured on 8 hours of 8 M rows: 10 % less
    # memory than with Arrow's default allocator, at the same speed.
    "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": "jemalloc",
}
"""Options of every session that deltabook starts."""


def spark_session(settings: Settings, for_queries: bool = False) -> SparkSession:
    """Return the Spark session of this process; start a session if there is none.

    Usually, the master and the JARs come from the settings. There are three exceptions. An active session, as
    in a notebook, is returned unchanged. Under spark-submit, the JVM that spark-submit has started is used,
    with the master and the JARs of spark-submit. If the master is an address `sc://…`, the session belongs to
    a Spark Connect server, which has its own JARs.

    Parameters
    ----------
    settings : Settings
        Settings with the Spark master, the memory of the driver and the folder of Delta's JARs.
    for_queries : bool
        Whether a new JVM gets the options for long queries instead of the options for jobs.

    Returns
    -------
    SparkSession
        The session. A session that is started here has Delta's extensions and the time zone UTC.

    Raises
    ------
    SettingsError
        If Java or Delta's JARs are missing, or Spark does not start.
    """
    if active := SparkSession.getActiveSession():
        return active
    if settings.master.startswith(_CONNECT):
        return _connect(settings.master)
    builder = SparkSession.builder.appName("deltabook")
    for name, value in (OPTIONS | _store_options(settings)).items():
        builder = builder.config(name, value)
    if "PYSPARK_GATEWAY_PORT" in os.environ:  # spark-submit has started the JVM
        return _start(
            _set_worker_options(builder, str(SparkConf().get("spark.master"))),
            "start spark-submit with --packages or --jars for io.delta:delta-spark_4.1_2.13",
        )
    if problem := find_spark_problem(settings.driver_memory) or find_java_problem():
        raise SettingsError(problem)
    os.environ |= choose_utf8_locale()
    # Workers must use this Python interpreter, not the python3 of the PATH. So must the process in which
    # Spark plans reads of Python data sources.
    os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
    builder = _set_worker_options(builder, settings.master)
    builder = builder.master(_allow_retry(settings.master)).config(
        "spark.driver.memory", settings.driver_memory
    )
    log4j = Path(str(files("deltabook.conf").joinpath("log4j2.properties"))).as_uri()
    options = f"-Dlog4j2.configurationFile={log4j} {format_java_options(for_queries)}"
    builder = builder.config("spark.driver.extraJavaOptions", options)
    if jars := list_delta_jars(settings):
        named = ",".join(map(str, jars))
        return _start(builder.config("spark.jars", named), f"check the JARs in {jars[0].parent}")
    cache = _cache_folder(settings)
    packages = _S3A if is_remote(settings.warehouse) else []
    builder = _configure_fetch(builder, cache, packages)
    show_message("fetching     Delta's JARs, once")
    session = _start(
        builder, "Delta's JARs could not be fetched; pass their folder with --jars", is_fetching=True
    )
    (cache / _COMPLETE).touch()
    return session


def list_delta_jars(settings: Settings) -> list[Path]:
    """Return the paths of Delta's JARs.

    Parameters
    ----------
    settings : Settings
        Settings whose `jars` may name the folder of the JARs. By default, the folder is in the user's cache.

    Returns
    -------
    list of Path
        Paths sorted by name; empty if the cache does not have all JARs yet.

    Raises
    ------
    SettingsError
        If the folder of `settings.jars` has no JAR of Delta.
    """
    cache = _cache_folder(settings)
    folder = settings.jars if settings.jars is not None else cache / "jars"
    jars = sorted(folder.glob("*.jar"))
    has_delta = any("delta-spark" in jar.name for jar in jars)
    if settings.jars is not None and not has_delta:
        raise SettingsError(f"no delta-spark JAR in {folder}: expected Delta {version('delta-spark')}'s JARs")
    return jars if has_delta and (settings.jars is not None or (cache / _COMPLETE).exists()) else []


def _connect(master: str) -> SparkSession:
    """Return a session of the Spark Connect server at the address `master`."""
    remedy = (
        "check that a server of this Spark version listens there, with Delta's JARs and extensions, and "
        "install deltabook[connect] here"
    )
    address = urlsplit(master)
    try:  # without this check, the client would retry for minutes
        socket.create_connection((address.hostname or "", address.port or _CONNECT_PORT), 10).close()
    except OSError as error:
        raise SettingsError(f"--master {master}: {error.strerror or error}. Remedy: {remedy}") from error
    builder = SparkSession.builder.remote(master)
    for name, value in OPTIONS.items():
        if name.startswith(_SESSION_PREFIXES):
            builder = builder.config(name, value)
    return _start(builder, remedy)


def _allow_retry(master: str) -> str:
    """Return the master. In local mode, add one retry per task, so that a dying worker does not end a run."""
    local = re.fullmatch(r"local(?:\[(\d+|\*)\])?", master)
    return f"local[{local[1] or 1},2]" if local else master


def _set_worker_options(builder: SparkSession.Builder, master: str) -> SparkSession.Builder:
    """Set the options for connections between Spark and its Python workers in local mode; return the builder.

    Measured with a task that does nothing: 80 ms with Spark's defaults; 35 ms with deltabook's daemon, which
    prevents a garbage collection; 15 ms if Spark and its workers also use a Unix socket, which does not delay
    small messages.
    """
    if not master.startswith("local"):
        return builder
    # In local mode, no other machine has to reach the driver.
    builder = builder.config("spark.driver.bindAddress", LOOPBACK).config("spark.driver.host", LOOPBACK)
    builder = builder.config("spark.python.daemon.module", DAEMON)
    return builder.config("spark.python.unix.domain.socket.enabled", "true")


def _configure_fetch(builder: SparkSession.Builder, cache: Path, packages: list[str]) -> SparkSession.Builder:
    """Make Spark fetch Delta's JARs and `packages` into a cache folder at its start; return the builder."""
    from delta import configure_spark_with_delta_pip

    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"Delta's JARs are not in {cache}, which cannot be created ({error.strerror}): pass their folder "
            "with --jars, or set XDG_CACHE_HOME to a writable folder"
        ) from None
    builder = builder.config("spark.jars.ivy", str(cache))
    builder = builder.config("spark.jars.excludes", ",".join(_SHIPPED_WITH_PYSPARK))
    configured: SparkSession.Builder = configure_spark_with_delta_pip(builder, packages)
    return configured


def _cache_folder(settings: Settings) -> Path:
    """Return the folder in the user's cache for the JARs of this version of Delta."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    name = f"delta-{version('delta-spark')}" + ("-s3a" if is_remote(settings.warehouse) else "")
    return Path(base) / "deltabook" / name


def _store_options(settings: Settings) -> dict[str, str]:
    """Return Spark's options for the object store of a warehouse, without credentials."""
    if not is_remote(settings.warehouse):
        return {}
    options = {"fs.s3a.endpoint.region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")}
    if endpoint := os.environ.get("AWS_ENDPOINT_URL"):
        options |= {"fs.s3a.endpoint": endpoint, "fs.s3a.path.style.access": "true"}
    return {f"spark.hadoop.{name}": value for name, value in options.items() if value}


# PySpark prints every failed query as JSON. PySpark and py4j also print a traceback for each lost connection.
# The command line reports such errors itself, so these loggers are turned off.
for _name in ("SQLQueryContextLogger", "py4j.java_gateway", "py4j.clientserver"):
    logging.getLogger(_name).disabled = True
for _server in (AccumulatorTCPServer, AccumulatorUnixServer):
    _server.handle_error = lambda *_: None  # type: ignore[method-assign]
logging.root.addFilter(lambda record: Path(record.pathname).parent.name != "py4j")


def _start(builder: SparkSession.Builder, remedy: str, is_fetching: bool = False) -> SparkSession:
    """Start a session and return it; if the start fails, raise a SettingsError with the cause.

    The cause comes from the error or from the lines that the JVM printed. If JARs are fetched, the JVM also
    prints the progress of the fetch; these lines are dropped after a successful start.
    """
    before = list_child_processes()
    with relay_stderr() as relay:
        try:
            session = builder.getOrCreate()
            session.sql("SELECT 1").collect()
            session.conf.get("spark.databricks.delta.snapshotPartitions")
        except BaseException as error:
            _terminate(list_child_processes() - before)
            if not isinstance(error, Exception) or is_interrupted():
                raise
            disk_problems = filter(None, map(_find_disk_problem, relay.last_lines))
            problem = describe_disk_problem(error, SPARK_TEMP_FOLDER) or next(disk_problems, "")
            if problem:
                raise SettingsError(f"Spark did not start: {problem}") from error
            if printed := next((line for line in relay.last_lines if _FATAL.search(line)), ""):
                raise SettingsError(f"Spark did not start: {printed}. {_MORE_RESOURCES}") from error
            if has_jvm_died(error):
                raise SettingsError(f"Spark did not start: {describe_error(error)[0]}") from error
            if _NOT_READY in str(error):
                last = f": {relay.last_lines[-1]}" if relay.last_lines else " and printed nothing"
                raise SettingsError(f"Spark did not start: its JVM ended{last}. {_MORE_RESOURCES}") from error
            reason = find_cause(str(error)) or type(error).__name__
            raise SettingsError(f"Spark did not start: {reason}. Remedy: {remedy}") from error
        finally:
            reinstall_handlers()
        if is_fetching:
            relay.drop()
    return session


def _terminate(processes: set[int]) -> None:
    """Terminate the processes of a JVM whose start has failed. They would otherwise wait for this process."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)


def _find_disk_problem(line: str) -> str:
    """Return the disk problem that a line of the JVM reports; empty if the line reports no problem."""
    return describe_disk_problem(OSError(line), SPARK_TEMP_FOLDER)
