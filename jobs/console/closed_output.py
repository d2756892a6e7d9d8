"""End a command without an error when the program that reads its output has ended, such as `head`."""

from __future__ import annotations

import os
import select
import sys
from typing import IO, NoReturn

from rich.console import Console


def is_output_closed(stream: IO[str] | None = None) -> bool:
    """Return whether a stream is a pipe that the reading program has closed.

    Parameters
    ----------
    stream : text file, optional
        The stream to check; default: standard output.

    Returns
    -------
    bool
        True if the reader has closed the pipe. False for a stream without a file descriptor.
    """
    stream = stream or sys.stdout
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def discard(stream: IO[str]) -> None:
    """Redirect a stream to /dev/null, so that later writes and flushes succeed.

    Parameters
    ----------
    stream : text file
        Standard output or standard error. Python flushes both streams once more at exit.
    """
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, stream.fileno())
    os.close(descriptor)


def leave_quietly() -> NoReturn:
    """Discard the rest of standard output, and end the command with exit status 0.

    Raises
    ------
    SystemExit
        With status 0.
    """
    discard(sys.stdout)
    raise SystemExit(0)


def flush_output() -> None:
    """Flush standard output. If standard output is a closed pipe, discard the buffered text."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)


def handle_broken_pipe(console: Console) -> None:
    """End the command with status 0 if the console prints to standard output, otherwise silence the console.

    `SafeConsole` calls this function when a write fails because the reader has closed the pipe. Without this
    function, the handler of `rich` would end the process with status 1.

    Parameters
    ----------
    console : Console
        The console that could not write because the pipe is closed.

    Raises
    ------
    SystemExit
        With status 0, if the console prints to standard output.
    """
    console.quiet = True
    if console.stderr or console.file is sys.stderr:
        discard(sys.stderr)
    else:
        leave_quietly()
