"""Messages for errors: the true cause in one line, and the remedy."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from contextlib import suppress

from deltabook.jobs.process.limits import memory_limit
from deltabook.schemas.errors import DeltabookError
from deltabook.udfs.storage.object_store import is_of_store

OWN_ERRORS = f"{DeltabookError.__module__}."
"""What the line of a worker's trace begins with that tells an error of deltabook's own."""
_STAYS = "nothing of this run is published"
_SPARK_ERROR = re.compile(r"\[[A-Z]+[A-Z_.]+\]")
_PYTHON_ERROR = re.compile(r"[\w.]+(Error|Exception|Invalid): ")
_JAVA_ERROR = re.compile(r"(?:Caused by: |: )?((?:[a-z]\w*\.)+[A-Z][\w$]*(?:Error|Exception)\b.*)$")
_COLOURS = re.compile(r"\x1b\[[\d;]*m")
"""Of the Delta client's own words."""
_WORDS, _DYING_SECONDS = 200, 3
_MORE_MEMORY = (
    "Give it more (driver_memory, as with DELTABOOK_DRIVER_MEMORY=8g), or let fewer tasks run at once, as "
    "with --master local[1]"
)
_KNOWN = (
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
        "a worker of Spark died: killed for want of memory, or crashed",
        "Free memory, or let fewer run at once, as with --master local[1]",
    ),
)
"""What Spark's traces have, what it means, and the remedy; the first that fits is told."""
_FREE_MEMORY = (
    "Free some, or raise the limit of this process (ulimit -v) or of its control group, and run again"
)
_UNMAPPED = "failed to map segment from shared object"


def message_of(error: BaseException) -> tuple[str, int]:
    """Return the message of an error and its exit status; an empty message if the error is a bug.

    Parameters
    ----------
    error : BaseException
        Any error.
    """
    message, status = _told(error)
    return _COLOURS.sub("", message), status


def _told(error: BaseException) -> tuple[str, int]:
    if isinstance(error, DeltabookError):
        return str(error), error.exit_status
    status = DeltabookError.exit_status
    if told := _of_this_process(error) or _of_dead_jvm(error):
        return told, status
    from deltalake.exceptions import DeltaError
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    if isinstance(error, PySparkException | Py4JError):
        return cause_of(str(error)) or type(error).__name__, status
    if isinstance(error, DeltaError | OSError) or is_of_store(error):
        return _words(error), status
    return "", status


def cause_of(trace: str) -> str:
    """Return the line of one of Spark's traces that tells the cause.

    Parameters
    ----------
    trace : str
        What Spark or its client says: lines of Java's and of a worker's Python.

    Returns
    -------
    str
        An error of deltabook's own that a worker raised; else a known cause with its remedy; else the
        worker's Python error, Spark's own error, or the innermost Java exception. Empty if there is no text.
    """
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    own = [line.split(": ", 1)[-1] for line in lines if line.startswith(OWN_ERRORS)]
    if own:
        return own[0]
    if told := _known(trace):
        return told
    python = [line for line in lines if _PYTHON_ERROR.match(line)]
    named = [line[line.index("[") :] for line in lines if _SPARK_ERROR.search(line)]
    java = [found[1] for line in lines if (found := _JAVA_ERROR.match(line))]
    return next(iter(python or named or java[-1:] or lines), "")


def _known(trace: str) -> str:
    for pattern, told, remedy in _KNOWN:
        if found := pattern.search(trace):
            return f"{told} ({found[0].strip()[:_WORDS]}): {_STAYS}. {remedy}, and run again"
    return ""


def _of_this_process(error: BaseException) -> str:
    """Tell that this process has used up its memory, threads or descriptors."""
    number = getattr(error, "errno", None)
    if isinstance(error, MemoryError) or number == errno.ENOMEM or _UNMAPPED in str(error):
        return f"memory ran out ({type(error).__name__}): {_STAYS}. {_FREE_MEMORY}"
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in str(error):
        return f"too many open files: {_STAYS}. Raise the limit, as with ulimit -n 4096, and run again"
    if "can't start new thread" in str(error):
        return f"no thread can be started: {_STAYS}. Raise the limits (ulimit -u, ulimit -v), and run again"
    return ""


def _of_dead_jvm(error: BaseException) -> str:
    """Tell that the JVM has gone, whatever its client makes of that."""
    process = jvm_process()
    if process is None or not isinstance(error, Exception):
        return ""
    try:
        status = process.wait(_DYING_SECONDS if _is_of_connection(error) else 0)
    except subprocess.TimeoutExpired:
        return ""
    with suppress(ProcessLookupError):
        os.kill(process.pid, 0)
        return ""  # it lives: this process was forked by the one whose child it is, and cannot wait for it
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    limit = memory_limit()
    allowed = f" (its control group allows {limit / (1 << 20):,.0f} MiB in all)" if limit else ""
    return (
        f"Spark's JVM {how}: for want of memory{allowed}, by somebody, or by a crash. {_STAYS.capitalize()}, "
        "what was published before stays. Free memory or lower driver_memory, and run again"
    )


def has_jvm_died(error: BaseException) -> bool:
    """Whether an error comes of a JVM that has gone.

    Parameters
    ----------
    error : BaseException
        Any error.
    """
    return bool(_of_dead_jvm(error)) or isinstance(error, ConnectionError)


def jvm_process() -> subprocess.Popen[bytes] | None:
    """Return the process of the JVM that this process has started; None if it has started none."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark import SparkContext

    process: subprocess.Popen[bytes] | None = getattr(SparkContext._gateway, "proc", None)
    return process


def _is_of_connection(error: BaseException) -> bool:
    """Whether an error may come from a JVM that is dying: its socket is gone before its process is."""
    from py4j.protocol import Py4JError, Py4JJavaError

    if isinstance(error, Py4JJavaError):
        return False
    return isinstance(error, Py4JError | ConnectionError | EOFError)


def _words(error: BaseException) -> str:
    """Return an error's own words in one line; of the system's, the file before the reason."""
    if isinstance(error, OSError) and error.strerror and error.errno is not None:
        where = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        return f"{where}: {error.strerror.lower()}" if where else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
