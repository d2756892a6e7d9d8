"""Run a command, and measure its wall time and the peak memory of all its processes together."""

import subprocess
import threading
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psutil

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Measured:
    seconds: float
    peak_bytes: int  # of the proportional set sizes: pages that processes share count once; 0 if not watched
    peak_python_bytes: int  # without the JVM
    stdout: str
    stderr: str


def measure(command: list[str], memory: bool = False) -> Measured:
    """Run a command to its end; raise if it fails. Watching its memory slows it, by a tenth or more."""
    started, peaks, ended = monotonic(), [(0, 0)], threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:

        def watch() -> None:
            while memory and not ended.wait(POLL_SECONDS):
                peaks.append(held_by(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        stdout, stderr = process.communicate()
        seconds = monotonic() - started
        ended.set()
        watcher.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed ({process.returncode}):\n{stderr[-2000:]}")
    return Measured(seconds, *(max(column) for column in zip(*peaks, strict=True)), stdout, stderr)


def keep_best(best: dict[str, dict[str, Any]], name: str, told: dict[str, Any]) -> None:
    """Keep what a program told of its fastest round."""
    if name not in best or told["seconds"] < best[name]["seconds"]:
        best[name] = told


def held_by(pid: int) -> tuple[int, int]:
    """Return the bytes that a process and its descendants hold, all of them and without the JVM."""
    total = python = 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0, 0
    for process in family:
        try:
            held = process.memory_full_info().pss
            total += held
            python += held if process.name() != "java" else 0
        except psutil.Error:  # it has just ended
            continue
    return total, python
