"""Describe an error in one line: the root cause and the remedy."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from contextlib import suppress

from deltabook.jobs.process.limits import read_memory_limit
from deltabook.jobs.process.optional_packages import describe_missing_package
from deltabook.schemas.errors import DeltabookError
from deltabook.udfs.storage.object_store import is_store_error

OWN_ERRORS = f"{DeltabookError.__module__}."
"""Start of those lines in a Spark worker's traceback that name an error class of deltabook."""
_UNPUBLISHED = "nothing of this run is published"
_SPARK_ERROR = re.compile(r"\[[A-Z]+[A-Z_.]+\]")
_PYTHON_ERROR = re.compile(r"[\w.]+(Error|Exception|Invalid): ")
_JAVA_ERROR = re.compile(r"(?:Caused by: |: )?((?:[a-z]\w*\.)+[A-Z][\w$]*(?:Error|Exception)\b.*)$")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
"""Colour codes that the Delta client puts into its messages."""
_MAX_CAUSE_LENGTH, _DYING_SECONDS, _STOPPING_SECONDS = 200, 3, 15
_MORE_MEMORY = (
    "Give Spark more (driver_memory, as with DELTABOOK_DRIVER_MEMORY=8g), or let fewer tasks run at once, as "
    "with --master local[1]"
)
_KNOWN_CAUSES = (
    (
        re.compile(r"\S*OutOfDirectMemoryError[^\n]*|\S*OutOfMemoryError: (?:Cannot reserve|Direct)[^\n]*"),
        "Spark ran out of direct memory",
        _MORE_MEMORY,
    ),
    (
        re.compile(r"\S*OutOfMemoryError: unable to create native thread[^\n]*"),
        "Spark could not start a thread",
        "Raise the limits of processes and memory (ulimit -u, ulimit -v)",
    ),
    (re.compile(r"\S*OutOfMemoryError[^\n]*"), "Spark ran out of memory", _MORE_MEMORY),
    (
        re.compile(r"[^\n]*Too many open files[^\n]*"),
        "too many open files",
        "Raise the limit, as with ulimit -n 4096",
    ),
    (
        re.compile(r"ExecutorLostFailure[^\n]*|Python worker exited unexpectedly[^\n]*"),
        "a worker of Spark died: killed for lack of memory, or crashed",
        "Free memory, or let fewer workers run at once, as with --master local[1]",
    ),
)
"""Each item: a pattern of Spark's error text, the meaning and the remedy. The first match is used."""
_FREE_MEMORY = (
    "Free memory, or raise the limit of this process (ulimit -v) or of its control group, and run again"
)
_UNMAPPED = "failed to map segment from shared object"


def describe_error(error: BaseException) -> tuple[str, int]:
    """Return the message of an error, and the exit status. The message is empty if the error is a bug.

    Parameters
    ----------
    error : BaseException
        Error that ended a command.

    Returns
    -------
    (message, exit_status) : (str, int)
        A message for people, and the exit status of the process.
    """
    message, status = _find_message(error)
    return _COLOURS.sub("", message), status


def _find_message(error: BaseException) -> tuple[str, int]:
    """Return the message of an error, possibly with colour codes, and the exit status."""
    if isinstance(error, DeltabookError):
        return str(error), error.exit_status
    status = DeltabookError.exit_status
    if message := _describe_exhaustion(error) or _describe_dead_jvm(error):
        return message, status
    if message := describe_missing_package(error):
        return message, status
    from deltalake.exceptions import DeltaError

    if _is_of_spark(error):
        return find_cause(str(error)) or type(error).__name__, status
    if isinstance(error, DeltaError | OSError) or is_store_error(error):
        return _read_own_message(error), status
    return "", status


def _is_of_spark(error: BaseException) -> bool:
    """Return whether an error comes from PySpark, or from py4j, which connects PySpark to the JVM."""
    if "pyspark" not in sys.modules:
        return False
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    return isinstance(error, PySparkException | Py4JError)


def find_cause(trace: str) -> str:
    """Return the line of Spark's error text that names the root cause.

    Parameters
    ----------
    trace : str
        Text of Spark's error: the Java stack trace, and the Python traceback of a worker.

    Returns
    -------
    str
        The first item of this list that the text contains: a deltabook error that a worker raised, a known
        cause with a remedy, the worker's Python error, Spark's own error, the innermost Java exception, or
        any line. Empty if the text is empty.
    """
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    own = [line.split(": ", 1)[-1] for line in lines if line.startswith(OWN_ERRORS)]
    if own:
        return own[0]
    if known := _find_known_cause(trace):
        return known
    python = [line for line in lines if _PYTHON_ERROR.match(line)]
    named = [line[line.index("[") :] for line in lines if _SPARK_ERROR.search(line)]
    java = [match[1] for line in lines if (match := _JAVA_ERROR.match(line))]
    return next(iter(python or named or java[-1:] or lines), "")


def _find_known_cause(trace: str) -> str:
    """Return the message of the first item of `_KNOWN_CAUSES` that matches `trace`; empty if none matches."""
    for pattern, meaning, remedy in _KNOWN_CAUSES:
        if match := pattern.search(trace):
            cause = match[0].strip()[:_MAX_CAUSE_LENGTH]
            return f"{meaning} ({cause}): {_UNPUBLISHED}. {remedy}, and run again"
    return ""


def _describe_exhaustion(error: BaseException) -> str:
    """Return the message of an error due to a lack of memory, threads or file descriptors, else empty."""
    number = getattr(error, "errno", None)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _UNMAPPED in str(error):
        return f"memory ran out ({type(error).__name__}): {_UNPUBLISHED}. {_FREE_MEMORY}"
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error):
        return f"too many open files: {_UNPUBLISHED}. Raise the limit, as with ulimit -n 4096, and run again"
    if "can't start new thread" in str(error):
        remedy = "Raise the limits (ulimit -u, ulimit -v), and run again"
        return f"no thread can be started: {_UNPUBLISHED}. {remedy}"
    return ""


def _describe_dead_jvm(error: BaseException) -> str:
    """Return the message of an error that was raised because the JVM has ended; empty if the JVM runs."""
    process = get_jvm_process()
    if process is None or not isinstance(error, Exception):
        return ""
    try:
        status = process.wait(_DYING_SECONDS if _is_connection_error(error) else 0)
    except subprocess.TimeoutExpired:
        return ""
    with suppress(ProcessLookupError):
        os.kill(process.pid, 0)
        # The JVM is running. `wait` cannot see that, because this process is a fork of the JVM's parent.
        return ""
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    limit = read_memory_limit()
    allowed = f" (its control group allows {limit / (1 << 20):,.0f} MiB in all)" if limit else ""
    return (
        f"Spark's JVM {how}: for lack of memory{allowed}, by another process, or by a crash. "
        f"{_UNPUBLISHED.capitalize()}; earlier runs are unchanged. Free memory or lower driver_memory, and "
        "run again"
    )


def has_jvm_died(error: BaseException) -> bool:
    """Return whether an error was raised because the JVM has ended.

    Parameters
    ----------
    error : BaseException
        Error to examine.
    """
    return bool(_describe_dead_jvm(error)) or isinstance(error, ConnectionError)


def wait_for_jvm_end() -> bool:
    """Return whether the JVM has ended, or ends within a few seconds because it received a signal."""
    process = get_jvm_process()
    if process is None:
        return False
    try:
        process.wait(_STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def get_jvm_process() -> subprocess.Popen[bytes] | None:
    """Return the process of the JVM that this Python process has started, or None."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark import SparkContext

    process: subprocess.Popen[bytes] | None = getattr(SparkContext._gateway, "proc", None)
    return process


def _is_connection_error(error: BaseException) -> bool:
    """Return whether an error may come from a dying JVM, which closes its socket before the process ends."""
    from py4j.protocol import Py4JError, Py4JJavaError

    if isinstance(error, Py4JJavaError):
        return False
    return isinstance(error, Py4JError | ConnectionError | EOFError)


def _read_own_message(error: BaseException) -> str:
    """Return an error's message as one line. The message of a system error becomes `file: reason`."""
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        where = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{where}: {error.strerror.lower()}" if where else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
