"""Run the command in a separate process: start it, watch it, send it signals, and read its output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAM = str(Path(sys.executable).with_name("deltabook"))
SECONDS = 300
TRACES = ("Traceback", "Exception in thread", "\tat ", "py4j", "KeyboardInterrupt", 'File "')
"""What no person should read."""


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def lines(self) -> list[str]:
        return self.said.splitlines()

    def until(self, happened: Callable[[], object]) -> None:
        end = time.monotonic() + SECONDS
        while not happened():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def until_said(self, text: str) -> None:
        self.until(lambda: text in self.said)

    def jvm(self) -> psutil.Process | None:
        """Spark's JVM, once its launcher has become it."""
        children = psutil.Process(self.process.pid).children()
        return next((one for one in children if "SparkSubmit" in " ".join(_words(one)[1:])), None)

    def send(self, number: int, whole_group: bool = False) -> None:
        """Send a signal to the process, or as a terminal does at Ctrl-C to all of its group."""
        (os.killpg if whole_group else os.kill)(self.process.pid, number)

    def ended(self) -> int:
        return self.process.wait(SECONDS)


def _words(process: psutil.Process) -> list[str]:
    try:
        words = process.cmdline()
    except psutil.Error:
        return [""]
    return words if words and words[0].endswith("java") else [""]


@contextmanager
def running(log: Path, *arguments: object, stdin: str = "", **environment: str) -> Iterator[Running]:
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [PROGRAM, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
            env=os.environ | environment,
        )
    try:
        assert process.stdin is not None
        process.stdin.write(stdin.encode())
        process.stdin.flush()
        yield Running(process, log)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run_apart(*arguments: object, limits: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, within limits of the shell's `ulimit`."""
    command = ["sh", "-c", f'{limits or ":"}; exec "$@"', "sh", PROGRAM, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, timeout=SECONDS, check=False
    )
