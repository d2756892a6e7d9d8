"""Damage every kind of file of a warehouse, and run the remedy that `verify` names."""

from __future__ import annotations

import io
import json
import random
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captures import depth_rows, simulated_lines, write
from conftest import Outcome, invoke
from deltalake import CommitProperties
from kept import state
from rich.console import Console
from test_epochs_run import restarted

from deltabook.jobs.maintenance.verify import verify_warehouse
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.delta_tables import open_table, table_exists
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.tables import RUNS, TABLES

SEED = 20240809
FLIPS = 20
"""Places of a file at which a byte is changed."""
ROUNDS = 4
"""How often a remedy may be followed by another one."""
LOG = "_delta_log"
OF_RUNS = {"runs", "written"}
VOLATILE = {"run_id", "fingerprint", "archived"}
"""Columns that name a run or a data file: they differ after the same books were made again."""
HISTORIES = ("fidelity", "validations")
"""Tables to which each judging adds rows."""
FROM_EVENTS = ("events", "golden", "hours", "instruments", "epochs", "quarantine", "books", "checkpoints")
"""Tables that are compared where raw files were ingested again."""


@dataclass(frozen=True)
class Original:
    """A sound warehouse, an earlier state of it, another warehouse, and what the first holds."""

    folder: Path
    rows: dict[str, list[str]] = field(default_factory=dict)

    @property
    def warehouse(self) -> Path:
        return self.folder / "w"


def build(folder: Path) -> Original:
    """Two symbols with a gap, an unreadable line and a restart of ids, read in two goes and judged."""
    bitcoin, ether = list(simulated_lines(60)), list(simulated_lines(40, "spot", "ETHUSDT", 4))
    cut = depth_rows(bitcoin)
    first = [*bitcoin[: cut[20]], *bitcoin[cut[24] :], b"1723161255020413617 nothing\n"]
    where, chunk = ("--warehouse", folder / "w"), ("--archive", "--chunk", "5s", "--no-validate")
    built = ("--cadence", "change,1s", "--no-validate")
    raw = [write(folder / "raw" / f"{name}.gz", lines) for name, lines in (("a", first), ("b", ether))]
    _said("ingest", "binance", *raw, *where, *chunk)
    _said("reconstruct", *where, *built)
    shutil.copytree(folder / "w", folder / "older")
    warehouse = Warehouse.without_spark(load_settings(None, {"warehouse": folder / "w"}))
    with warehouse.writing("validate"):
        for table in TABLES.values():
            if table_exists(warehouse.root, table):
                warehouse.add(table, [], properties=CommitProperties({"made": "to have a checkpoint"}))
                open_table(warehouse.root, table).create_checkpoint()
    _said("ingest", "binance", write(folder / "raw" / "c.gz", restarted(bitcoin)), *where, *chunk)
    _said("reconstruct", *where, *built)
    _said("validate", *where)
    other = write(folder / "raw" / "other.gz", simulated_lines(30, "spot", "XRPUSDT", 5))
    _said("ingest", "binance", other, "--warehouse", folder / "other", *chunk)
    _said("reconstruct", "--warehouse", folder / "other", *built)
    assert found_in(folder / "w") == []
    return Original(folder, rows_of(folder / "w"))


def _said(*arguments: object) -> Outcome:
    outcome = invoke(*arguments)
    assert outcome.exit_status in (0, 1, 3), outcome.said
    return outcome


def rows_of(warehouse: Path, versions: dict[str, int] | None = None) -> dict[str, list[str]]:
    """Rows of every published table except `runs` and `written`, without the columns `VOLATILE`."""
    stored, found = TableReader(warehouse, versions or published_versions(warehouse)), {}
    for table in TABLES.values():
        if table.name not in OF_RUNS and stored.exists(table):
            names = [name for name in table.names if name not in VOLATILE]
            if rows := sorted(map(repr, stored.rows(table, *names))):
                found[table.name] = rows
    return found


def run_ids(warehouse: Path) -> set[str]:
    return {str(row["run_id"]) for row in TableReader(warehouse).rows(RUNS, "run_id")}


# What is damaged.


@dataclass(frozen=True)
class Case:
    """One damage of one file, or of a table's whole folder."""

    kind: str
    path: str
    damage: str
    place: int = 0

    def __str__(self) -> str:
        return f"{self.kind}, {self.path} {self.damage}{f' {self.place}' if self.damage == 'flipped' else ''}"


Targets = dict[str, list[str]]
"""Paths by kind of file."""


def targets(warehouse: Path) -> Targets:
    """The files of each kind, in order; of each the first and the last."""
    found: Targets = {}
    versions = published_versions(warehouse)
    for table in TABLES.values():
        folder = warehouse / table.name
        if not folder.is_dir():
            continue
        live = set(_live(warehouse, table, versions.get(table.name)))
        data = {
            str(path.relative_to(warehouse)) for path in folder.rglob("*.parquet") if LOG not in path.parts
        }
        logs = {str(path.relative_to(warehouse)) for path in (folder / LOG).iterdir()}
        kinds = {
            "data file": sorted(live),
            "earlier data file": sorted(data - live),
            "commit": sorted(path for path in logs if path.endswith(".json")),
            "checkpoint": sorted(path for path in logs if path.endswith(".parquet")),
            "pointer": sorted(path for path in logs if path.endswith("_last_checkpoint")),
        }
        found |= {f"{table.name}: {kind}": _few(paths) for kind, paths in kinds.items() if paths}
    for name in sorted(OF_RUNS):
        copies = [str(path.relative_to(warehouse)) for path in (warehouse / "_copies" / name).glob("*")]
        found[f"{name}: copy of data file"] = _few([path for path in copies if "part-" in path])
        found[f"{name}: copy of commit"] = _few([path for path in copies if ".json." in path])
        found[f"{name}: copy of checkpoint"] = _few([path for path in copies if ".checkpoint." in path])
    archived = [path for path in (warehouse / "_archive").rglob("*") if path.is_file()]
    found["archive: copy of raw file"] = _few([str(path.relative_to(warehouse)) for path in archived])
    return found


def _live(warehouse: Path, table: tables.Table, version: int | None) -> Iterator[str]:
    if table is RUNS or version is not None:
        actions = open_table(warehouse, table, version).get_add_actions(flatten=True)
        yield from (f"{table.name}/{path}" for path in actions["path"].to_pylist())


def _few(paths: list[str]) -> list[str]:
    paths = sorted(paths)
    return sorted({paths[0], paths[-1]}) if paths else []


def cases(warehouse: Path) -> list[Case]:
    """Every kind of file in every way."""
    found = []
    for kind, paths in targets(warehouse).items():
        for path in paths:
            ways = ["removed", "emptied", "truncated", "swapped", "older", "added"]
            if kind.endswith(": commit"):
                ways.append("added far on")
            found += [Case(kind, path, damage) for damage in ways]
            if path == paths[-1]:
                found += [Case(kind, path, "flipped", place) for place in range(FLIPS)]
    names = [table.name for table in TABLES.values() if (warehouse / table.name).is_dir()]
    folders = [*names, *(f"{name}/{LOG}" for name in names), "_copies/runs", "_copies/written", "_archive"]
    for name in filter(lambda name: (warehouse / name).is_dir(), folders):
        kind = "folder" if name in names else "folder of log" if LOG in name else "folder of copies"
        found += [Case(kind, name, damage) for damage in ("removed", "emptied")]
        found += [Case(kind, name, damage) for damage in ("swapped", "older") if name != "_archive"]
    return found


def do(case: Case, original: Original, warehouse: Path) -> bool:
    """Do the damage to a copy of the warehouse; whether that changes anything."""
    before = state(warehouse)
    path = warehouse / case.path
    if path.is_dir():
        _spoil_folder(case, original, path)
    else:
        _spoil_file(case, original, warehouse, path)
    return state(warehouse) != before


def _spoil_folder(case: Case, original: Original, path: Path) -> None:
    if case.damage == "emptied":
        for file in path.rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        return
    shutil.rmtree(path)
    source = original.folder / {"swapped": "other", "older": "older"}.get(case.damage, "none") / case.path
    if source.is_dir():
        shutil.copytree(source, path)


def _spoil_file(case: Case, original: Original, warehouse: Path, path: Path) -> None:
    content = path.read_bytes()
    match case.damage:
        case "removed":
            path.unlink()
        case "emptied":
            path.write_bytes(b"")
        case "truncated":
            path.write_bytes(content[: len(content) // 2])
        case "flipped":
            chosen = random.Random(f"{SEED} {case.kind} {case.place}")
            spoilt = bytearray(content)
            spoilt[int(len(content) * (case.place + chosen.random()) / FLIPS)] ^= 1 << chosen.randrange(8)
            path.write_bytes(spoilt)
        case "swapped":
            other = _another(warehouse, path)
            path.write_bytes(other.read_bytes())
            other.write_bytes(content)
        case "older":
            path.write_bytes(_another(warehouse, path, before=True).read_bytes())
        case "added":
            _stray(path, 1).write_bytes(content)
        case "added far on":
            _stray(path, 50).write_bytes(content)


def _another(warehouse: Path, path: Path, before: bool = False) -> Path:
    """A file of the same kind: the one before, or the one after; of the same table if there is one."""
    suffix = path.suffix if len(path.suffix) < 10 else ""
    pattern = f"*{suffix}" if suffix else "*"
    near = sorted(one for one in path.parent.glob(pattern) if one.is_file() and one.stat().st_size)
    if len(near) < 2:
        far = warehouse.rglob(path.name) if path.name[0] in "_0" else warehouse.rglob(pattern)
        near = sorted(one for one in far if one.is_file() and (LOG in one.parts) == (LOG in path.parts))
    place = near.index(path)
    return near[place - 1 if before or place + 1 == len(near) else place + 1]


def _stray(path: Path, further: int) -> Path:
    """The name of a file that should not be there."""
    name = path.name.split(".")[0]
    if name.isdecimal() and LOG in path.parts:
        last = max(int(one.name.split(".")[0]) for one in path.parent.glob("0*.json"))
        return path.with_name(path.name.replace(name, f"{last + further:020}"))
    return path.with_name(f"stray-{path.name}")


# What becomes of it.


class FailedError(Exception):
    """What must not be: the case and why."""


@dataclass
class Judge:
    """Runs remedies; those that start Spark once for each plan, since they depend on nothing else.

    `is_thorough` tells whether raw files are ingested again, and books rebuilt, for new plans at all.
    """

    original: Original
    is_thorough: bool = True
    planned: dict[str, str] = field(default_factory=dict)

    def outcome(self, case: Case, folder: Path) -> str:
        """Damage a copy, run what is named, and tell what came of it; raises `FailedError`."""
        warehouse = folder / "w"
        shutil.copytree(self.original.warehouse, warehouse)
        try:
            if not do(case, self.original, warehouse):
                return "the same bytes"
            return self._mended(warehouse)
        finally:
            shutil.rmtree(folder)

    def _mended(self, warehouse: Path) -> str:
        came_of = []
        ids = run_ids(self.original.warehouse)
        for _ in range(ROUNDS):
            findings = found_in(warehouse)
            if not findings:
                break
            try:
                told = self._run_remedy(warehouse, findings)
            except FailedError as error:
                found = [f"{one['table']} {one['file']}: {one['problem']}" for one in findings]
                raise FailedError(f"{error}; found, after {came_of}: {found}") from None
            came_of.append(told)
            if told in (AGAIN, UNLISTED, ELSEWHERE):
                return told
        else:
            raise FailedError(f"remedies go in circles: {came_of}, {findings[0]}")
        if not came_of:
            deep = verify_warehouse(warehouse, True, Console(file=io.StringIO()))
            self._require_same(warehouse, "nothing was found")
            if deep["findings"] or len(deep["restorable"]) < len(ids):
                return "named by --deep: a file of earlier runs, or a raw file's copy"
            return "no effect: nothing reads it"
        if UNDONE in came_of and not ids <= run_ids(warehouse):
            self._require_same(warehouse, str(came_of), self._last_left(run_ids(warehouse)))
            return UNDONE
        self._require_same(warehouse, str(came_of))
        if not ids <= run_ids(warehouse):
            return LOST
        return COPIED if came_of[-1] == UNDONE else came_of[-1]

    def _last_left(self, left: set[str]) -> dict[str, list[str]]:
        """What the newest of the original's runs that are left had published."""
        runs = [row for row in TableReader(self.original.warehouse).rows(RUNS) if row["run_id"] in left]
        return rows_of(self.original.warehouse, dict(max(runs, key=lambda row: row["finished"])["versions"]))

    def _require_same(self, warehouse: Path, why: str, expected: dict[str, list[str]] | None = None) -> None:
        found, expected = rows_of(warehouse), expected or self.original.rows
        other = [name for name, rows in expected.items() if not _is_same(name, rows, found)]
        if other or found.keys() - expected.keys():
            raise FailedError(f"other rows after {why}: {sorted(other)}")

    def _run_remedy(self, warehouse: Path, findings: list[dict[str, Any]]) -> str:
        """Run the first remedy, that of logs before that of data; tell which it was."""
        remedies = sorted({str(one["remedy"]) for one in findings}, key=_order)
        remedy = remedies[0].replace(", with the same settings as before", " --cadence change,1s")
        before = state(warehouse)
        if "--from-archive" in remedy:
            return self._ingest_again(warehouse, remedy)
        if "--rebuild" in remedy or remedy.startswith("deltabook reconstruct"):
            return self._rebuild(warehouse, remedy)
        if remedy.startswith(("copy ", "put the file back")):
            return ELSEWHERE
        dry = _typed(remedy.replace(" --yes", ""))
        done = _typed(remedy)
        if done.exit_status == 2:
            if state(warehouse) != before:
                raise FailedError(f"a refused remedy has changed something: {done.said}")
            raise FailedError(f"the remedy is refused: {done.said}")
        if done.exit_status:
            raise FailedError(f"{remedy}: {done.exit_status} {done.said}")
        if done.summary.get("undone") or "will be undone" in dry.stdout:
            said = dry.summary.get("undone") or dry.summary["logs"]
            if not said:
                raise FailedError("runs were undone, and it was not said beforehand")
            return UNDONE
        return COPIED

    def _rebuild(self, warehouse: Path, remedy: str) -> str:
        dry = _typed(remedy.split(";")[0].replace(" --yes", ""))
        plan = json.dumps({name: dry.summary[name] for name in ("files", "rebuilt", "judged")})
        if plan in self.planned:
            shutil.rmtree(warehouse)
            shutil.copytree(self.original.warehouse, warehouse)  # as that plan has left it, to the row
            return self.planned[plan]
        for command in remedy.split("; "):
            done = _typed(command)
            if done.exit_status not in (0, 1):
                raise FailedError(f"{command}: {done.said}")
        self.planned[plan] = "restore --rebuild: built again"
        return self.planned[plan]

    def _ingest_again(self, warehouse: Path, remedy: str) -> str:
        into, plan = warehouse.parent / "new", "again"
        if plan in self.planned:
            from deltabook.jobs.integrity.audit import stage_display
            from deltabook.jobs.integrity.recovery import locate_raw_files

            found = locate_raw_files(warehouse, into, stage_display(Console(file=io.StringIO())))
            read = [path for _, paths in found["batches"] for path in paths]
            if found["missing"] or len(read) + len(found["unlisted"]) != 3:
                raise FailedError(f"raw files are missing: {found}")
            return AGAIN if len(read) == 3 else UNLISTED
        done = _typed(remedy.replace("NEW_WAREHOUSE", str(into)))
        if done.exit_status not in (0, 1):
            raise FailedError(f"{remedy}: {done.exit_status} {done.said}")
        invoke("reconstruct", "--warehouse", into, "--cadence", "change,1s", "--no-validate")
        found_rows = rows_of(into)
        if other := [name for name in FROM_EVENTS if found_rows.get(name) != self.original.rows.get(name)]:
            raise FailedError(f"other rows after ingesting again: {other}")
        self.planned[plan] = AGAIN
        return AGAIN


COPIED = "restore: from copies"
AGAIN = "restore --from-archive: ingested again"
UNLISTED = "restore --from-archive: without a raw file that only the damaged ledger lists, as told"
ELSEWHERE = "a copy of a raw file: told to copy it there"
UNDONE = "restore: a run is undone, as was told beforehand"
LOST = "restore: tables as before, without earlier runs, as was told beforehand"


def _is_same(name: str, rows: list[str], found: dict[str, list[str]]) -> bool:
    """Whether a table has the rows that it had; those that are added by each judging may be more."""
    held = found.get(name, [])
    return held == rows or (name in HISTORIES and {*rows} <= {*held})


def _order(remedy: str) -> tuple[bool, bool, int, str]:
    """Remedies in the order in which a person would type them: of logs, of events, then the longest."""
    is_of_log = remedy.startswith("deltabook restore --yes")
    return not is_of_log, "--from-archive" not in remedy, -len(remedy), remedy


def _typed(remedy: str) -> Outcome:
    program, *arguments = shlex.split(remedy)
    assert program == "deltabook", remedy
    return invoke(*arguments, "--json")


def found_in(warehouse: Path) -> list[dict[str, Any]]:
    """What `verify` finds; an error that names a command counts as that finding."""
    try:
        return list(verify_warehouse(warehouse, False, Console(file=io.StringIO()))["findings"])
    except WarehouseError as error:
        raise FailedError(f"verify ends with an error: {error}") from error
