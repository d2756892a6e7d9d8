"""A process that holds one Spark session and forks a driver for each run, so that each run can be killed.

The process reads one JSON object per line: the commands, and where or when to kill or pause the commands. The
process answers each line when the commands have ended. A fork has its own copy of the driver's state, its own
lock and its own open files. All of these are lost when the fork dies. The JVM lives on: its jobs are
cancelled, and the process waits for the end of these jobs.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import struct
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any

import psutil
from conftest import invoke
from pyspark.sql import SparkSession

from deltabook.jobs.process import crash_points
from deltabook.jobs.runtime.session import spark_session
from deltabook.jobs.runtime.settings import load_settings

SYSTEM_CALLS = {"x86_64": (317, (86, 265)), "aarch64": (277, (37,))}
"""Of each machine: `seccomp`, and those that link a file, as a commit's last step does."""
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _KILL_PROCESS = 0x7FFF0000, 0x80000000
_NO_NEW_PRIVILEGES, _SET_FILTER, _ALL_THREADS = 38, 1, 1


def die_when_linking() -> None:
    """Have the kernel kill this process when it links a file: a commit is then written, but not there."""
    seccomp, links = SYSTEM_CALLS[platform.machine()]
    steps = [(_LOAD, 0, 0, 0)]
    steps += [(_JUMP_IF_EQUAL, len(links) - place, 0, call) for place, call in enumerate(links)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _KILL_PROCESS)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_void_p))

    given = Filter(len(steps), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    if libc.syscall(seccomp, _SET_FILTER, _ALL_THREADS, ctypes.byref(given)):
        raise OSError(ctypes.get_errno(), "seccomp")


def stopping_at(point: str, stop: Callable[[], None]) -> Callable[[str], None]:
    """Make a `crash_point` that does something else at a point."""
    passed: Counter[str] = Counter()

    def at(name: str) -> None:
        passed[name] += 1
        if f"{name}:{passed[name]}" == point:
            stop()

    return at


def hold(folder: Path) -> None:
    """Say that the point is reached, and stay there until told to go on."""
    (folder / "held").touch()
    session = os.getppid()
    while not (folder / "on").exists() and os.getppid() == session:
        time.sleep(0.01)


def limit(size: int, name: str) -> None:
    """Let no file grow beyond a size that a process of this name writes: java, or python, drivers too."""
    for process in psutil.Process(os.getppid()).children(recursive=True):
        if process.name().startswith(name):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def work(asked: dict[str, Any], out: int) -> None:
    """Run the commands; tell of each as it ends."""
    if "inside" in asked:
        crash_points.crash_point = stopping_at(asked["inside"], die_when_linking)
    if "hold_at" in asked:
        crash_points.crash_point = stopping_at(asked["hold_at"], partial(hold, Path(asked["folder"])))
    if "limit" in asked:
        limit(asked["limit"], asked["whose"])
    if "user" in asked:
        os.setgroups([])
        os.setgid(asked["user"])
        os.setuid(asked["user"])
    if "crash_at" in asked:
        os.environ[crash_points.CRASH_AT] = asked["crash_at"]
    for command in asked["commands"]:
        run = invoke(*command)
        os.write(out, json.dumps([run.exit_status, run.stdout, run.stderr]).encode() + b"\n")


def fork(asked: dict[str, Any], spark: SparkSession) -> tuple[int, int]:
    """Start a driver; return its process, and where it tells."""
    client = spark.sparkContext._gateway._gateway_client
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(told)
            # Connections of its own to the JVM; those of before stay open in the parent.
            client.kept = client.deque, client.thread_connection
            client.deque, client.thread_connection = deque(), threading.local()
            spark._jvm.SparkSession.setActiveSession(spark._jsparkSession)
            work(asked, tell)
            status = 0
        finally:
            os._exit(status)
    os.close(tell)
    return child, told


class Session:
    """The JVM, and the drivers that are at work."""

    def __init__(self, spark: SparkSession, answers: IO[str]):
        self.spark, self.answers = spark, answers
        self.at_work = 0
        self.lock = threading.Lock()

    def start(self, asked: dict[str, Any]) -> None:
        with self.lock:
            self.at_work += 1
            child, told = fork(asked, self.spark)
        threading.Thread(target=self.attend, args=(asked, child, told), daemon=True).start()

    def attend(self, asked: dict[str, Any], child: int, told: int) -> None:
        """See a driver to its end; what goes wrong with that ends all."""
        try:
            self.end(asked, child, told)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    def end(self, asked: dict[str, Any], child: int, told: int) -> None:
        """Kill a driver if asked, wait for its end, and answer."""
        started = time.monotonic()
        if "after" in asked:
            time.sleep(asked["after"])
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        with os.fdopen(told) as lines:
            outcomes = [json.loads(line) for line in lines if line.endswith("\n")]
        _, status = os.waitpid(child, 0)
        answer = {
            "number": asked["number"],
            "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            "failed": os.WIFEXITED(status) and os.WEXITSTATUS(status) != 0,
            "outcomes": outcomes,
            "seconds": time.monotonic() - started,
        }
        with self.lock:
            self.at_work -= 1
            for process in psutil.Process().children(recursive=True) if "limit" in asked else ():
                unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, unlimited)
            if not self.at_work:
                context = self.spark.sparkContext
                context.cancelAllJobs()
                while context.statusTracker().getActiveJobsIds():
                    time.sleep(0.02)
            print(json.dumps(answer), file=self.answers, flush=True)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in ("ingest", "reconstruct", "validate", "summary"):
        import_module(f"deltabook.jobs.pipeline.{name}")
    import_module("deltabook.jobs.queries.sql")
    import_module("great_expectations")
    spark = spark_session(load_settings(None, {"master": "local[2]", "driver_memory": "2g"}))
    print("ready", file=answers, flush=True)
    session = Session(spark, answers)
    for line in sys.stdin:
        session.start(json.loads(line))


if __name__ == "__main__":
    main()
