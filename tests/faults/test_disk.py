"""Full and read-only disks: one line reports the problem, readers still work, and a later run succeeds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from crashing import SETTINGS, assert_same, counting, counts, drivers, late_file, state

pytestmark = pytest.mark.spark

PLENTY = "size=64m"
LARGEST_FILE = 1024
"""Bytes: a write that would make a file longer is cut short, as on a full disk."""
NOBODY = 65534
"""A user without rights."""


def mount(*arguments: object) -> None:
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip() or done.returncode}")


@pytest.fixture
def small_disk(request):
    """The late file's warehouse on a file system of its own."""
    late = late_file()
    late.warehouse.mkdir(exist_ok=True)
    mount("-t", "tmpfs", "-o", PLENTY, "tmpfs", late.warehouse)
    try:
        yield late
    finally:
        subprocess.run(["umount", "--lazy", late.warehouse], check=True)


def leave_room(folder: Path, kilobytes: int) -> None:
    found = os.statvfs(folder)
    used = (found.f_blocks - found.f_bfree) * found.f_frsize // 1024
    mount("-o", f"remount,size={used + kilobytes}k", folder)


def refused(told: dict) -> str:
    """The one line that a command has ended with."""
    [(status, stdout, stderr)] = told["outcomes"]
    assert (status, stdout) == (2, ""), stderr
    lines = [line for line in stderr.splitlines() if line.startswith("deltabook: ")]
    assert lines == stderr.splitlines()[-1:]
    assert "Traceback" not in stderr and "deltabook.schemas" not in stderr
    return lines[0].removeprefix("deltabook: ")


def assert_read(scene, step: int) -> None:
    """Readers see what was published, through its files and through SQL."""
    assert_same(state(scene.warehouse), scene.states[step], "what readers see")
    (status, stdout, stderr), *_ = drivers().run(counting(scene.warehouse))["outcomes"]
    assert status == 0, stderr
    assert json.loads(stdout) == counts(scene.folder / str(step))


def assert_done(scene, step: int) -> None:
    told = drivers().run(scene.commands[step])
    assert told["outcomes"][0][0] == scene.statuses[step]
    assert_same(state(scene.warehouse), scene.states[step + 1], "with room again")


@pytest.mark.parametrize(
    ("step", "kilobytes"),
    [(0, 0), (0, 40), (0, 250), (2, 40)],
    ids=["to take back", "of the workers", "of the archive", "of the driver"],
)
def test_a_full_disk_is_reported_and_published_tables_stay(small_disk, step, kilobytes):
    small_disk.put_back(step)
    leave_room(small_disk.warehouse, kilobytes)
    line = refused(drivers().run(small_disk.commands[step]))
    assert line.startswith(f"{small_disk.warehouse}")
    assert "no space left on device: nothing of this run is published" in line
    assert "Free some space on this disk" in line
    assert_same(state(small_disk.warehouse), small_disk.states[step], "what readers see")
    mount("-o", f"remount,{PLENTY}", small_disk.warehouse)
    assert_done(small_disk, step)


@pytest.mark.parametrize("step", [0, 1])
def test_a_file_size_limit_is_reported_as_a_full_disk(step):
    late = late_file()
    late.put_back(step)
    line = refused(drivers().run(late.commands[step], limit=LARGEST_FILE, whose="python"))
    assert line.startswith(f"{late.warehouse}: file too large: nothing of this run is published")
    assert_same(state(late.warehouse), late.states[step], "what readers see")
    assert_done(late, step)


def test_a_full_spark_folder_is_reported():
    late = late_file()
    late.put_back(0)
    line = refused(drivers().run(late.commands[0], limit=0, whose="java"))
    assert line.startswith("Spark's folder for temporary files (SPARK_LOCAL_DIRS, else /tmp): file too large")
    assert_read(late, 0)
    assert_done(late, 0)


def test_a_read_only_warehouse_can_be_read(small_disk):
    small_disk.put_back(0)
    mount("-o", "remount,ro", small_disk.warehouse)
    for command in small_disk.commands:
        line = refused(drivers().run(command))
        assert line.startswith(f"{small_disk.warehouse / '.lock'} is not writable: read-only file system")
        assert "another --warehouse" in line
    assert_read(small_disk, 0)
    for asked in (("book", "BTC-USDT"), ("status",)):
        told = drivers().run((*asked, "--warehouse", small_disk.warehouse))
        assert told["outcomes"][0][0] == 0, told
    mount("-o", f"remount,rw,{PLENTY}", small_disk.warehouse)
    assert_done(small_disk, 0)


def test_a_warehouse_of_another_user_can_be_read():
    late = late_file()
    late.put_back(0)
    who = {"user": NOBODY} if os.geteuid() == 0 else {}
    for path in (late.warehouse, late.warehouse / ".lock"):
        path.chmod(0o555)
    try:
        line = refused(drivers().run(late.commands[0], **who))
        assert line.startswith(f"{late.warehouse / '.lock'} is not writable: permission denied")
        read = drivers().run(("status", "--warehouse", late.warehouse), **who)
        assert read["outcomes"][0][0] == 0, read
    finally:
        late.warehouse.chmod(0o755)
        (late.warehouse / ".lock").chmod(0o644)
    assert_done(late, 0)


def test_a_full_temporary_folder_is_reported_before_anything_is_written(small_disk, tmp_path):
    small_disk.put_back(0)
    leave_room(small_disk.warehouse, 16)
    command = ["ingest", "binance", small_disk.commands[0][2], "--warehouse", tmp_path / "w", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", "from deltabook.jobs.cli.program import main; main()", *map(str, command)],
        env=os.environ | SETTINGS | {"SPARK_LOCAL_DIRS": str(small_disk.warehouse)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"deltabook: Spark's folder for temporary files, {small_disk.warehouse}, has 0 MiB"
    )
    assert "free some space there, or set SPARK_LOCAL_DIRS to another folder" in line
    assert "\tat " not in done.stderr
    assert not (tmp_path / "w").exists()
