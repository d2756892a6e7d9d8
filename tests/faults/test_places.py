"""Use a warehouse after it was moved, or without permission to write to it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import invoke
from kept import build_kept, done, found_in, rows_of

from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.tables import EVENTS, FILES

pytestmark = pytest.mark.spark

NOBODY = 65_534
AT = "2024-08-08T23:54:16Z"


@pytest.fixture(scope="module")
def kept(spark) -> Iterator[Path]:
    """In a folder that everybody may read, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="deltabook-places-") as folder:
        Path(folder).chmod(0o755)
        yield build_kept(Path(folder))


@pytest.fixture
def moved(kept, tmp_path) -> Path:
    """The warehouse in another place, where its raw files are out of reach."""
    shutil.copytree(kept, tmp_path / "elsewhere" / "w")
    return tmp_path / "elsewhere" / "w"


@contextmanager
def hidden(*paths: Path) -> Iterator[None]:
    for path in paths:
        path.rename(f"{path}.hidden")
    try:
        yield
    finally:
        for path in paths:
            Path(f"{path}.hidden").rename(path)


def record_absolute(warehouse: Path, place: Path) -> None:
    """Write the ledger as earlier versions did: with the whole path of each copy."""
    writer = Warehouse.without_spark(load_settings(None, {"warehouse": warehouse}))
    with writer.writing("ingest"):
        rows = [row | {"archived": str(place / row["archived"])} for row in writer.rows(FILES)]
        writer.overwrite(FILES, rows)


@pytest.mark.parametrize("is_earlier", [False, True], ids=["now", "by an earlier version"])
def test_a_moved_warehouse_keeps_its_archive(kept, moved, tmp_path, is_earlier):
    if is_earlier:
        record_absolute(moved, kept)
    event = TableReader(moved).rows(EVENTS, "symbol", "sequence", "source_file")[0]
    expected = rows_of(kept)
    raw = [Path(row["path"]) for row in TableReader(moved).rows(FILES)]
    with hidden(kept, *raw):
        assert found_in(moved, deep=True) == []
        told = done("raw", event["symbol"], event["sequence"], "--warehouse", moved, "--json").summary
        assert told["records"][0]["path"].startswith(f"{moved}/_archive/")
        into = tmp_path / "new"
        done("restore", "--from-archive", "--into", into, "--warehouse", moved, "--json")
        assert TableReader(into).counts(EVENTS, "symbol") == TableReader(moved).counts(EVENTS, "symbol")
        copies = sorted(path for path in (moved / "_archive").rglob("*") if path.is_file())
        copies[0].unlink()
        (finding,) = found_in(moved, deep=True)
        assert finding["table"] == "files" and "no intact copy" in finding["problem"]
    copies[1].write_bytes(b"other")
    named = {one["file"] for one in found_in(moved, deep=True)}
    assert named == {str(path) for path in copies}
    assert rows_of(kept) == expected


@contextmanager
def reading_only(warehouse: Path) -> Iterator[None]:
    """Be another user, who may read all and write nothing; root becomes nobody, others lose their right."""
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            yield
        finally:
            os.seteuid(0)
        return
    modes = {path: path.stat().st_mode for path in (warehouse, *warehouse.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


READING = [
    ("status",),
    ("verify",),
    ("verify", "--deep"),
    ("book", "BTC-USDT", "--at", AT),
    ("replay", "BTC-USDT", "--from", AT),
]
"""Not `sql`: its JVM has another user than a process that becomes nobody here."""


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_reading_commands_need_no_write_permission(kept, command):
    expected = done(*command, "--warehouse", kept)  # everything that they import is read now
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    with reading_only(kept):
        outcome = invoke(*command, "--warehouse", kept)
    assert outcome.exit_status == 0, outcome.said
    assert "Traceback" not in outcome.stderr
    if command[0] in ("book", "replay"):
        assert outcome.stdout == expected.stdout
    if command[0] == "verify":
        assert "the lock cannot be tried" in outcome.stdout
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before


@pytest.mark.parametrize(
    "command",
    [("restore",), ("restore", "--yes"), ("restore", "--rebuild", "--yes"), ("report",)],
    ids=" ".join,
)
def test_writing_commands_name_what_is_not_writable(kept, command):
    with reading_only(kept):
        outcome = invoke(*command, "--warehouse", kept)
    assert outcome.exit_status == (0 if "--rebuild" in command else 2)  # nothing is damaged
    if outcome.exit_status:
        assert outcome.stderr.count("deltabook: ") == 1 and str(kept) in outcome.said
