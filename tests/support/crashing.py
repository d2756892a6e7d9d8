"""Define scenes for crash tests: run commands, kill them, and check the state of the warehouse."""

from __future__ import annotations

import atexit
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from captures import depth_rows, simulated_lines, write
from places import SUPPORT, child_environment

from deltabook.jobs.tables.delta_tables import open_dataset, open_table
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.tables import EVENTS, FILES, RUNS, TABLES
from deltabook.udfs.storage.locations import parse_location
from deltabook.udfs.storage.object_store import read_file

VOLATILE = {"run_id", "fingerprint"}
"""Columns that name runs or data files, whose names are random."""
OF_FILES = {"written"}
"""Tables that tell of files and commits, those of a run that was taken back too."""
SETTINGS = {"DELTABOOK_CHUNK": "5s", "DELTABOOK_CADENCE": "change,1s"}
COUNTED = ("events", "golden", "files", "hours")
"""Tables that an ingest makes."""

State = dict[str, str]
"""Digest of each table's rows, and of the bytes of its data files where nothing in them is random."""


class Drivers:
    """A session whose drivers can be killed: see crashing_process.py."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        self.asked = 0
        self.answers: dict[int, dict[str, Any]] = {}

    def end(self) -> None:
        """End the session; the next one that is asked for is new."""
        assert self.process.stdin is not None and self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()
        drivers.cache_clear()

    def start(self, *commands: Sequence[object], **how: object) -> int:
        """Start commands in a driver of their own, to be killed or held as told; return its number."""
        self.asked += 1
        texts = [[str(part) for part in command] for command in commands]
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(how | {"number": self.asked, "commands": texts}) + "\n")
        self.process.stdin.flush()
        return self.asked

    def result(self, number: int) -> dict[str, Any]:
        """Wait for a driver's end."""
        assert self.process.stdout is not None
        while number not in self.answers:
            line = self.process.stdout.readline()
            assert line, f"the session has ended: {self.process.wait()}\n{said().read_text()[-4000:]}"
            answer = json.loads(line)
            self.answers[answer["number"]] = answer
        told = self.answers.pop(number)
        assert not told["failed"], told
        return told

    def run(self, *commands: Sequence[object], **how: object) -> dict[str, Any]:
        """Run commands in a driver of their own, and kill it as told."""
        return self.result(self.start(*commands, **how))


def said() -> Path:
    """Where the session's standard error goes."""
    return _folder() / "said"


@cache
def drivers() -> Drivers:
    """Start the session of all tests of this process, which ends with it."""
    with said().open("w") as told:
        process = subprocess.Popen(
            [sys.executable, SUPPORT / "crashing_process.py"],
            env=child_environment() | SETTINGS,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
        )
    assert process.stdin is not None and process.stdout is not None
    atexit.register(process.stdout.close)
    atexit.register(process.kill)
    assert process.stdout.readline() == "ready\n"
    return Drivers(process)


def state(warehouse: Path) -> State:
    """What a warehouse says, as it was last published."""
    found = {}
    for name, version in published_versions(warehouse).items():
        if name in OF_FILES:
            continue
        table = TABLES[name]
        names = [column for column in table.names if column not in VOLATILE]
        opened = open_table(warehouse, table, version)
        rows = sorted(map(repr, opened.to_pyarrow_table(columns=names).to_pylist()))
        found[name] = hashlib.sha256("\n".join(rows).encode()).hexdigest()
        if rows and table.partition_by and names == table.names:
            found[f"{name}, bytes"] = " ".join(
                sorted(
                    hashlib.sha256(read_file(parse_location(uri))).hexdigest() for uri in opened.file_uris()
                )
            )
    # A table that was made and is empty says no more than one that was not.
    empty = hashlib.sha256(b"").hexdigest()
    return {name: digest for name, digest in found.items() if digest != empty}


def runs(warehouse: Path) -> int:
    return len(TableReader(warehouse).rows(RUNS, "run_id"))


def assert_each_file_is_in_once(warehouse: Path) -> None:
    stored = TableReader(warehouse, published_versions(warehouse))
    rows = stored.rows(EVENTS, "source_file", "source_row", "event_type", "sequence")
    assert max(Counter(tuple(row.values()) for row in rows).values()) == 1
    held = Counter(row["source_file"] for row in rows)
    ledger = stored.rows(FILES)
    assert {row["path"]: row["events"] for row in ledger if row["state"] == "ingested"} == held
    assert len({row["content_hash"] for row in ledger}) == len(ledger) == len(held)


@dataclass
class Scene:
    """Commands on a warehouse, and its undisturbed states: before them, and after each."""

    name: str
    folder: Path
    commands: list[tuple[object, ...]]
    states: list[State] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    points: list[list[str]] = field(default_factory=list)

    @property
    def warehouse(self) -> Path:
        """Always the same folder."""
        return self.folder.parent / "w"

    def keep(self, step: int) -> None:
        """Keep the warehouse as it is before a command."""
        shutil.copytree(self.warehouse, self.folder / str(step), dirs_exist_ok=True)

    def put_back(self, step: int) -> None:
        shutil.rmtree(self.warehouse, ignore_errors=True)
        shutil.copytree(self.folder / str(step), self.warehouse, dirs_exist_ok=True)

    def build(self, source: Path | None = None) -> Scene:
        """Run it undisturbed, on a copy of a warehouse or on none."""
        shutil.rmtree(self.warehouse, ignore_errors=True)
        if source:
            shutil.copytree(source, self.warehouse)
        self.warehouse.mkdir(exist_ok=True)
        for step, command in enumerate([None, *self.commands]):
            if command:
                told = drivers().run(command, crash_at="?")
                (status, _, stderr), *_ = told["outcomes"]
                assert status in (0, 1), stderr
                self.statuses.append(status)
                self.seconds.append(told["seconds"])
                passed = [line for line in stderr.splitlines() if line.startswith("crash point ")]
                self.points.append([line.removeprefix("crash point ") for line in passed])
            self.keep(step)
            self.states.append(state(self.warehouse))
        return self

    def survive(self, step: int, *, through: bool = False, asked: bool = False, **how: object) -> int:
        """Kill a command, see what readers see, run it again and compare; return the signal, 0 if it ended.

        Parameters
        ----------
        step : int
            Which command.
        through : bool
            Whether the commands after it run too, in the killed driver and afterwards.
        asked : bool
            Whether SQL is asked what it sees.
        **how
            Where or when it is killed.
        """
        self.put_back(step)
        before = runs(self.warehouse)
        commands = self.commands[step:] if through else self.commands[step : step + 1]
        killed = drivers().run(*commands, **how)
        if not killed["signal"]:
            return 0
        done = step + runs(self.warehouse) - before
        assert len(killed["outcomes"]) in (done - step, done - step - 1), killed
        assert_same(state(self.warehouse), self.states[done], "what readers see")
        if asked and self.states[done]:
            (status, stdout, stderr), *_ = drivers().run(counting(self.warehouse))["outcomes"]
            assert status == 0, stderr
            assert json.loads(stdout) == counts(self.folder / str(done))
        # Run again as if nothing were known of how far it came.
        again = drivers().run(*commands)
        statuses = [status for status, *_ in again["outcomes"]]
        assert statuses == self.statuses[step : step + len(commands)], again
        assert_same(state(self.warehouse), self.states[step + len(commands)], "run again")
        assert_each_file_is_in_once(self.warehouse)
        stands = TableReader(self.warehouse)
        made = {
            table.name: open_table(self.warehouse, table).version()
            for table in TABLES.values()
            if table is not RUNS and stands.exists(table)
        }
        assert made == published_versions(self.warehouse)
        assert not (self.warehouse / "_staging").exists()
        return int(killed["signal"])


def assert_same(found: State, expected: State, when: str) -> None:
    names = found.keys() | expected.keys()
    other = sorted(name for name in names if found.get(name) != expected.get(name))
    assert not other, f"{when}: {', '.join(other)}"


def counting(warehouse: Path, names: Sequence[str] = COUNTED) -> tuple[object, ...]:
    """The command that counts the rows of several tables in one statement."""
    counted = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in names)
    return ("sql", f"SELECT {counted}", "--warehouse", warehouse, "--format", "json")


def counts(warehouse: Path, names: Sequence[str] = COUNTED) -> dict[str, int]:
    """What that says of a warehouse."""
    versions = published_versions(warehouse)
    return {name: open_dataset(warehouse, TABLES[name], versions[name]).count_rows() for name in names}


@cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="deltabook-crashing-")
    atexit.register(folder.cleanup)
    Path(folder.name).chmod(0o755)  # another user reads it too
    return Path(folder.name)


@cache
def _raw() -> dict[str, Path]:
    """Write the captures: one with a hole, what fills it, and another symbol's that lacks its end."""
    bitcoin, ether = simulated_lines(160), simulated_lines(120, "spot", "ETHUSDT", 4)
    cuts = depth_rows(bitcoin)
    lines = {
        "first": [*bitcoin[: cuts[50]], *bitcoin[cuts[100] :]],
        "late": bitcoin[cuts[50] : cuts[100]],
        "other": ether[:-40],
    }
    return {name: write(_folder() / "raw" / f"{name}.gz", found) for name, found in lines.items()}


def _ingest(*what: object) -> list[tuple[object, ...]]:
    into = ("--warehouse", _folder() / "w", "--json")
    return [
        ("ingest", "binance", *what, "--archive", *into),
        ("reconstruct", *into),
        ("validate", *into),
    ]


@cache
def new_warehouse() -> Scene:
    """Two files into no warehouse."""
    commands = _ingest(_raw()["first"], _raw()["other"])
    return Scene("new", _folder() / "new", commands).build()


@cache
def late_file() -> Scene:
    """The file that fills the hole, into the warehouse of the others."""
    scene = Scene("late file", _folder() / "late", _ingest(_raw()["late"]))
    return scene.build(new_warehouse().folder / "3")


def replaced_file() -> Scene:
    """The other symbol's file, now whole; the scene of a new warehouse does not go together with it."""
    start = new_warehouse().folder / "3"
    other = write(_raw()["other"], simulated_lines(120, "spot", "ETHUSDT", 4))
    return Scene("replace", _folder() / "replace", _ingest(other, "--replace")).build(start)


def taking_back(scene: Scene) -> Scene:
    """What comes after a reconstruct that was killed before it was published."""
    step = 1
    scene.put_back(step)
    killed = drivers().run(scene.commands[step], crash_at="append.runs.before")
    assert killed["signal"], killed
    left = scene.folder / "left"
    shutil.copytree(scene.warehouse, left)
    return Scene("take back", _folder() / "back", scene.commands[step:]).build(left)
