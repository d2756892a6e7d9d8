"""The process of the command line: its signals, its limits, its exit status, and internal errors.

Little is imported before the handlers of signals are set: Ctrl-C in the first second must be told as well.
"""

from __future__ import annotations

import os
import sys

from deltabook.jobs.process import interruptions

INTERNAL_ERROR = 70
"""Exit status of a bug: BSD's EX_SOFTWARE."""
SHOW_TRACEBACK = "DELTABOOK_TRACEBACK"
"""Variable of the environment: set to 1, tracebacks are printed instead of being written to a file."""


def main(*arguments: str) -> None:
    """Run the command line as a process, and leave with its exit status.

    Parameters
    ----------
    *arguments : str
        Come before those of the process, such as the name of the command for `spark-submit jobs/<name>.py`.

    Raises
    ------
    SystemExit
        With the exit status.
    """
    interruptions.install()
    status: object = 0
    try:
        status = _run(arguments)
    except SystemExit as left:
        status = left.code
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        status = _tell(error)
    if interruptions.is_interrupted():
        _tell_interruption()
    interruptions.leave_default()
    _finish_output()
    sys.exit(status)  # type: ignore[arg-type]


def _run(arguments: tuple[str, ...]) -> object:
    from deltabook.jobs.process.limits import process_problem

    if problem := process_problem():
        os.write(2, f"deltabook: {problem}\n".encode())
        return 2
    from deltabook.jobs.cli.commands import app

    return app(args=[*arguments, *sys.argv[1:]])


def _tell(error: BaseException) -> int:
    """Tell an error that no command has told: one that is meant for people, else a bug."""
    try:
        from logging import ERROR

        from deltabook.jobs.console.logging import resume, say
        from deltabook.jobs.process.error_causes import message_of

        resume()
        message, status = message_of(error)
        if message:
            say(f"deltabook: {message}", ERROR, event="error", exit_status=status)
            return status
        return _tell_bug(error)
    except Exception as second:
        # There is no memory or descriptor left to tell it in the usual way.
        return _tell_least(error, second)


def _tell_least(*errors: BaseException) -> int:
    """Tell an error without opening anything."""
    import errno

    told, status = f"this is a bug of deltabook: {errors[0]!r}", INTERNAL_ERROR
    if any(getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) for error in errors):
        told, status = "too many open files. Raise the limit, as with ulimit -n 4096, and run again", 2
    elif any(isinstance(error, MemoryError) for error in errors):
        told, status = "memory ran out. Free some, or raise the limit (ulimit -v), and run again", 2
    os.write(2, f"deltabook: {told}\n".encode(errors="backslashreplace"))
    return status


def _tell_bug(error: BaseException) -> int:
    """Tell that deltabook has a bug, in one line, and keep the traceback for whoever mends it."""
    import traceback
    from logging import ERROR

    from deltabook.jobs.console.logging import is_json, log_error, say
    from deltabook.jobs.console.redaction import redacted

    cause = " ".join(f"{type(error).__name__}: {error}".split())
    if is_json():
        log_error(f"this is a bug of deltabook: {cause}", error, INTERNAL_ERROR)
        return INTERNAL_ERROR
    told = f"deltabook: this is a bug of deltabook: {cause}. Please report it with the command that you ran"
    trace = redacted("".join(traceback.format_exception(error)))
    if os.environ.get(SHOW_TRACEBACK) == "1":
        say(trace)
    elif kept := _keep(trace):
        told += f" and the traceback in {kept}"
    else:
        told += f" and the traceback, which {SHOW_TRACEBACK}=1 prints"
    say(told, ERROR, event="error", exit_status=INTERNAL_ERROR)
    return INTERNAL_ERROR


def _keep(trace: str) -> str:
    """Write a traceback to a file that only this user can read; return its path, empty if that fails."""
    import tempfile
    import time

    arguments = " ".join(sys.argv)
    text = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {arguments}\n{trace}"
    try:
        descriptor, path = tempfile.mkstemp(prefix="deltabook-error-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return ""
    return path


def _tell_interruption() -> None:
    """Tell that the process was interrupted, and end it: threads and the JVM are not waited for."""
    import logging

    logging.disable(logging.NOTSET)
    told = interruptions.line()
    if "deltabook.jobs.console.logging" in sys.modules:
        from deltabook.jobs.console.logging import give_back, resume, say

        resume()
        say(
            f"deltabook: {told}",
            logging.WARNING,
            event="interrupted",
            exit_status=interruptions.exit_status(),
        )
        give_back()
        told = ""
    interruptions.end_now(told)


def _finish_output() -> None:
    """Show what the JVM has printed last."""
    if "deltabook.jobs.runtime.jvm_output" in sys.modules:
        from deltabook.jobs.runtime.jvm_output import flush

        flush()
