"""Run the command line as a process: handle signals, check limits, set the exit status, and report bugs.

The signal handlers are set before most modules are imported, so that even an early Ctrl-C is handled.
"""

from __future__ import annotations

import os
import sys

from deltabook.jobs.process import interruptions

INTERNAL_ERROR = 70
"""Exit status after an error that is a bug of deltabook. BSD calls this number EX_SOFTWARE."""
SHOW_TRACEBACK = "DELTABOOK_TRACEBACK"
"""Environment variable. If its value is 1, tracebacks are printed instead of written to a file."""


def main(*arguments: str) -> None:
    """Run the command that the arguments name, and end the process with the exit status of the command.

    Parameters
    ----------
    *arguments : str
        Arguments to put before the arguments of the process. A script `jobs/<name>.py`, which `spark-submit`
        runs, passes the name of the command.

    Raises
    ------
    SystemExit
        Always, with the exit status.
    """
    interruptions.install_handlers()
    status: object = 0
    try:
        status = _run_command(arguments)
    except SystemExit as left:
        status = left.code
    except KeyboardInterrupt:
        pass
    except BaseException as error:
        status = _report_error(error)
    if interruptions.is_interrupted():
        _end_interrupted()
    interruptions.restore_default_handlers()
    _finish_output()
    sys.exit(status)  # type: ignore[arg-type]


def _run_command(arguments: tuple[str, ...]) -> object:
    """Check the limits of the process, run the named command, and return the command's exit status."""
    from deltabook.jobs.process.limits import find_process_problem

    if problem := find_process_problem():
        os.write(2, f"deltabook: {problem}\n".encode())
        return 2
    from rich.console import Console

    from deltabook.jobs.cli.commands import app
    from deltabook.jobs.console.closed_output import handle_broken_pipe

    setattr(Console, "on_broken_pipe", handle_broken_pipe)  # noqa: B010  # typer's help makes its own console
    return app(args=[*arguments, *sys.argv[1:]])


def _report_error(error: BaseException) -> int:
    """Report an error that no command has reported, and return the exit status for this error."""
    try:
        from logging import ERROR

        from deltabook.jobs.console.logging import resume_json_log, show_message
        from deltabook.jobs.process.error_causes import describe_error

        resume_json_log()
        message, status = describe_error(error)
        if message:
            show_message(f"deltabook: {message}", ERROR, event="error", exit_status=status)
            return status
        return _report_bug(error)
    except Exception as second:
        # No memory or file descriptor is left to report the error in the usual way.
        return _report_without_resources(error, second)


def _report_without_resources(*errors: BaseException) -> int:
    """Report an error without opening files or importing much, and return the exit status for this error."""
    import errno

    message, status = f"this is a bug of deltabook: {errors[0]!r}", INTERNAL_ERROR
    if any(getattr(error, "errno", None) in (errno.EMFILE, errno.ENFILE) for error in errors):
        message, status = "too many open files. Raise the limit, as with ulimit -n 4096, and run again", 2
    elif any(isinstance(error, MemoryError) for error in errors):
        message, status = "memory ran out. Free memory, or raise the limit (ulimit -v), and run again", 2
    os.write(2, f"deltabook: {message}\n".encode(errors="backslashreplace"))
    return status


def _report_bug(error: BaseException) -> int:
    """Report a bug in one line, save or print the traceback for a bug report, and return the exit status."""
    import traceback
    from logging import ERROR

    from deltabook.jobs.console.logging import is_json_log, log_error, show_message
    from deltabook.jobs.console.redaction import redact

    cause = " ".join(f"{type(error).__name__}: {error}".split())
    if is_json_log():
        log_error(f"this is a bug of deltabook: {cause}", error, INTERNAL_ERROR)
        return INTERNAL_ERROR
    message = (
        f"deltabook: this is a bug of deltabook: {cause}. Please report it with the command that you ran"
    )
    trace = redact("".join(traceback.format_exception(error)))
    if os.environ.get(SHOW_TRACEBACK) == "1":
        show_message(trace)
    elif path := _save_traceback(trace):
        message += f" and the traceback in {path}"
    else:
        message += f" and the traceback, which {SHOW_TRACEBACK}=1 prints"
    show_message(message, ERROR, event="error", exit_status=INTERNAL_ERROR)
    return INTERNAL_ERROR


def _save_traceback(trace: str) -> str:
    """Write a traceback to a file that only this user can read; return its path, or empty text on failure."""
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


def _end_interrupted() -> None:
    """Report that a signal has interrupted the command, and end without waiting for threads and the JVM."""
    import logging

    logging.disable(logging.NOTSET)
    message = interruptions.interruption_message()
    if "deltabook.jobs.console.logging" in sys.modules:
        from deltabook.jobs.console.logging import restore_stderr, resume_json_log, show_message

        resume_json_log()
        show_message(
            f"deltabook: {message}",
            logging.WARNING,
            event="interrupted",
            exit_status=interruptions.exit_status(),
        )
        restore_stderr()
        message = ""
    interruptions.end_now(message)


def _finish_output() -> None:
    """Show the last lines that the JVM printed, and flush standard output."""
    if "deltabook.jobs.runtime.jvm_output" in sys.modules:
        from deltabook.jobs.runtime.jvm_output import flush

        flush()
    from deltabook.jobs.console.closed_output import flush_output

    flush_output()
