"""Start and stop server processes on loopback for tests."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

_SECONDS = 120


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(is_so: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait until something is so, while a process runs."""
    waited = 0.0
    while not is_so():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert waited < _SECONDS, f"{process.args} is not ready"
        time.sleep(0.1)
        waited += 0.1


def end(process: subprocess.Popen) -> None:
    """Kill a process and all that it has started."""
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family, timeout=60)
    process.wait()
