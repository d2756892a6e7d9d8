"""Error messages: they give the true cause and the remedy, or say that the error is a bug."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from processes import run_apart

from deltabook.jobs.process import limits
from deltabook.jobs.process.error_causes import describe_error, find_cause
from deltabook.jobs.process.java import find_java_problem
from deltabook.schemas.errors import InputError, WarehouseError

DIRECT = """An error occurred while calling None.None. Trace:
io.netty.util.internal.OutOfDirectMemoryError: failed to allocate 16777216 byte(s) of direct memory
\tat io.netty.util.internal.PlatformDependent.incrementMemoryCounter(PlatformDependent.java:880)"""
NESTED = """An error occurred while calling o72.sql.
: org.apache.spark.SparkException: Job aborted
\tat org.apache.spark.X.y(X.scala:1)
Caused by: java.io.FileNotFoundException: File file:/a b does not exist
\tat java.base/z"""
WORKER = """[WORKER] An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "x.py", line 1, in f
deltabook.schemas.errors.WarehouseError: /w: no space left on device. Free some space"""
RAISE = """
import sys
from deltabook.jobs.cli import program
from deltabook.jobs.lookup import status
def fail(_):
    {}
status.read_status = fail
program.main()
"""


@pytest.mark.parametrize(
    ("trace", "cause"),
    [
        (DIRECT, "Spark ran out of direct memory (io.netty.util.internal.OutOfDirectMemoryError: failed"),
        ("Caused by: java.lang.OutOfMemoryError: Java heap space", "Spark ran out of memory (java.lang.Out"),
        ("java.lang.OutOfMemoryError: unable to create native thread: x", "Spark could not start a thread"),
        ("x ExecutorLostFailure (executor 1 exited)", "a worker of Spark died: killed for lack of memory"),
        ("java.io.IOException: Too many open files", "too many open files"),
        (NESTED, "java.io.FileNotFoundException: File file:/a b does not exist"),
        (WORKER, "/w: no space left on device. Free some space"),
        ("x\n  [TABLE_OR_VIEW_NOT_FOUND] The table", "[TABLE_OR_VIEW_NOT_FOUND] The table"),
        ("", ""),
    ],
)
def test_the_true_cause_of_a_trace_is_sound(trace, cause):
    told = find_cause(trace)
    assert told.startswith(cause) if cause else not told
    assert "calling" not in told and "\n" not in told


@pytest.mark.parametrize(
    ("error", "told", "status"),
    [
        (MemoryError(), "memory ran out (MemoryError)", 2),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE), "f"), "too many open files", 2),
        (OSError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED)), "Connection refused", 2),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "f"), "f: no such file or directory", 2),
        (ImportError("x.so: failed to map segment from shared object"), "memory ran out (ImportError)", 2),
        (RuntimeError("can't start new thread"), "no thread can be started", 2),
        (WarehouseError("w"), "w", 2),
        (InputError("i"), "i", 3),
    ],
)
def test_errors_of_the_machine_have_a_cause_and_a_remedy(error, told, status):
    assert describe_error(error)[0].startswith(told)
    assert describe_error(error)[1] == status
    assert "[Errno" not in describe_error(error)[0]


@pytest.mark.parametrize("error", [KeyError("x"), RecursionError(), RuntimeError("x"), AssertionError()])
def test_a_bug_has_no_message_for_people(error):
    assert describe_error(error)[0] == ""


@pytest.mark.parametrize(
    ("fail", "cause"),
    [
        ("raise KeyError('x\\x1b[31m')", "KeyError: 'x\\x1b[31m'"),
        ("fail(_)", "RecursionError: maximum recursion depth exceeded"),
        ("raise type('PanicException', (BaseException,), {})('called `unwrap`')", "PanicException: called"),
    ],
    ids=["exception", "recursion", "panic"],
)
def test_a_bug_has_a_status_of_its_own_one_line_and_a_file_with_its_traceback(fail, cause, tmp_path):
    def run(**environment):
        return subprocess.run(
            [sys.executable, "-c", RAISE.format(fail), "status", "--warehouse", str(tmp_path / "w")],
            capture_output=True,
            text=True,
            env=os.environ | {"TMPDIR": str(tmp_path)} | environment,
            check=False,
        )

    done = run()
    assert (done.returncode, done.stdout) == (70, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"deltabook: this is a bug of deltabook: {cause}")
    assert "Please report it with the command that you ran and the traceback in" in line
    kept = Path(line.split(" in ")[-1])
    assert kept.parent == tmp_path and kept.stat().st_mode & 0o777 == 0o600
    assert "Traceback (most recent call last)" in kept.read_text()
    assert "Traceback" in run(DELTABOOK_TRACEBACK="1").stderr


@pytest.mark.parametrize(
    ("limit", "environment", "told"),
    [
        ("ulimit -v 1000000", {}, "may use 977 MiB of address space, and needs 3,072 MiB: raise the limit"),
        ("ulimit -n 16", {}, "may open 16 files at once, and needs 64: raise the limit"),
        ("", {"PYTHONUTF8": "0", "LC_ALL": "C"}, "the locale's encoding is ascii"),
    ],
    ids=["memory", "files", "locale"],
)
def test_limits_are_told_in_one_line_before_anything_starts(limit, environment, told, tmp_path):
    done = run_apart("status", "--warehouse", tmp_path / "w", limits=limit, **environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("deltabook: ") and told in line
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("limit", "environment", "told"),
    [
        ("ulimit -n 64", {}, "may open 64 files at once, and needs 512: raise the limit, as with ulimit -n"),
        (
            "ulimit -v 5000000",
            {},
            "of address space, and needs 7,168 MiB: raise the limit, as with ulimit -v",
        ),
        (
            "",
            {"HOME": "/proc/none", "XDG_CACHE_HOME": ""},
            "cannot be created (No such file or directory): pass",
        ),
        ("", {"SPARK_LOCAL_DIRS": "/proc/none"}, "cannot be created (No such file or directory): set SPARK"),
        ("", {"JAVA_HOME": "/nonexistent"}, "JAVA_HOME (/nonexistent) holds no java"),
    ],
    ids=["files", "memory", "home", "temporary", "java"],
)
def test_limits_of_spark_are_told_in_one_line_before_anything_starts(limit, environment, told, tmp_path):
    (tmp_path / "raw").write_bytes(b"x")
    run = "run", "binance", tmp_path / "raw", "--warehouse", tmp_path / "w"
    done = run_apart(*run, limits=limit, DELTABOOK_DRIVER_MEMORY="4g", **environment)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("deltabook: ") and told in line
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n", "java is 11. Install it"),
        (
            "#!/bin/sh\necho 'Error occurred' >&2\necho 'Could not reserve space' >&2\nexit 1\n",
            "Could not rese",
        ),
        ("#!/bin/sh\nexit 3\n", "-version fails with status 3: it printed nothing"),
        ("junk", "cannot be run (Exec format error)"),
    ],
    ids=["old", "no memory", "silent", "junk"],
)
def test_what_is_wrong_with_java_is_sound(script, told, tmp_path, monkeypatch):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(script)
    java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert told in (find_java_problem() or "")


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "2000"}, 2000),
        ("0::/a\n", {"memory.max": "3000"}, 3000),
        ("4:cpu,memory:/a\n0::/\n", {"memory/a/memory.limit_in_bytes": "5000"}, 5000),
        ("4:memory:/a\n", {"memory/memory.limit_in_bytes": str((1 << 63) - 4096)}, None),
        ("0::/\n", {}, None),
    ],
)
def test_the_memory_of_a_control_group_is_that_of_the_narrowest(groups, files, limit, tmp_path, monkeypatch):
    own = tmp_path / "cgroup"
    own.write_text(groups)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    monkeypatch.setattr(limits, "_CONTROL_GROUPS", tmp_path / "root")
    monkeypatch.setattr(limits, "_OWN_GROUPS", own)
    assert limits.read_memory_limit() == limit


@pytest.mark.parametrize(
    ("locale", "added"),
    [
        ({"LC_ALL": "C"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LC_ALL": "", "LANG": "C.utf8"}, False),
        ({}, True),
    ],
)
def test_programs_are_started_in_a_locale_of_utf_8(locale, added, monkeypatch):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in locale.items():
        monkeypatch.setenv(name, value)
    assert limits.choose_utf8_locale() == ({"LC_ALL": "C.UTF-8"} if added else {})
