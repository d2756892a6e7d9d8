"""The commands `verify` and `restore`: `verify` names each fault, and the printed remedy repairs it."""

from __future__ import annotations

import io
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from captures import simulated_lines, write
from conftest import Outcome, invoke
from deltalake import DeltaTable
from filelock import FileLock
from kept import state
from rich.console import Console

from deltabook.jobs.maintenance.verify import verify_warehouse
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables
from deltabook.schemas.tables import TABLES, Table

pytestmark = pytest.mark.spark


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


def die(*_):
    raise Killed


def found_in(warehouse: Path, *, deep: bool = False) -> list[dict]:
    return verify_warehouse(warehouse, deep, Console(file=io.StringIO()))["findings"]


def said(*arguments: object) -> Outcome:
    outcome = invoke(*arguments)
    assert outcome.exit_status == 0, outcome.said
    return outcome


def run_as_told(remedy: str, into: Path | None = None) -> None:
    """Type what `verify` says."""
    for command in remedy.replace(", with the same settings as before", "").split("; "):
        program, *arguments = shlex.split(command.replace("NEW_WAREHOUSE", str(into)))
        assert program == "deltabook"
        said(*arguments)


def books(warehouse: Path) -> list[str]:
    """Every row of what was rebuilt and proven, in order."""
    found = []
    for table in (tables.EVENTS, tables.BOOKS, tables.CHECKPOINTS, tables.COVERAGE, tables.CHECKS):
        if not (warehouse / table.name).exists():
            continue
        names = [name for name in table.names if name not in ("source_file", "fingerprint")]
        rows = open_table(warehouse, table).to_pyarrow_table(columns=names).to_pylist()
        found += sorted(f"{table.name} {row!r}" for row in rows)
    return found


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory) -> Path:
    """Two symbols, two hours of five seconds, read in two goes, the second of them judged."""
    folder = tmp_path_factory.mktemp("kept")
    halves: list[list[Path]] = [[], []]
    for symbol, seed in (("BTCUSDT", 3), ("ETHUSDT", 4)):
        lines = list(simulated_lines(80, "spot", symbol, seed))
        for half, part in enumerate((lines[: len(lines) // 2], lines[len(lines) // 2 :])):
            halves[half].append(write(folder / f"{symbol}-{half}.gz", part))
    where = ("--warehouse", folder / "w")
    for files in halves:
        said("ingest", "binance", *files, *where, "--archive", "--chunk", "5s", "--no-validate")
        said("reconstruct", *where, "--no-validate")
    said("validate", *where)
    return folder


@pytest.fixture
def copied(built, tmp_path) -> Path:
    """A warehouse to spoil."""
    shutil.copytree(built / "w", tmp_path / "w")
    return tmp_path / "w"


def commits(warehouse: Path, table: str) -> list[Path]:
    return sorted((warehouse / table / "_delta_log").glob("*.json"))


def live(warehouse: Path, table: str) -> Path:
    """The greatest data file that is in a table."""
    opened_table = open_table(warehouse, TABLES[table])
    paths = [
        warehouse / table / path for path in opened_table.get_add_actions(flatten=True)["path"].to_pylist()
    ]
    return max(paths, key=lambda path: (path.stat().st_size, path))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(path: Path) -> None:
    path.unlink()


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(path: Path) -> None:
    """Put other rows into a file of the same size, which can be read as well as before."""
    size, rows = path.stat().st_size, pq.ParquetFile(path).read()
    for length in range(rows.num_rows - 1, -1, -1):
        pq.write_table(rows.slice(0, length), path, compression="zstd", compression_level=19)
        if path.stat().st_size <= size:
            break
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    path.write_bytes(content[:-footer].ljust(size - footer, b"\0") + content[-footer:])
    assert (path.stat().st_size, pq.ParquetFile(path).read().num_rows) == (size, length)


def named(findings: list[dict]) -> set[tuple[str, str]]:
    return {(one["table"], one["file"]) for one in findings}


def test_intact_warehouse_has_no_findings_and_every_run_can_be_restored(built):
    told = said("verify", "--deep", "--warehouse", built / "w", "--json").summary
    assert told["findings"] == []
    assert (told["runs"], len(told["restorable"])) == (5, 5)
    assert told["data_files"] > 30 and told["log_files"] > 40 and told["bytes_per_second"] > 0


def test_intact_warehouse_after_replacement_kill_and_rebuild_has_no_findings(built, copied, monkeypatch):
    where = ("--warehouse", copied, "--json")
    chunk = ("--chunk", "5s")
    said("ingest", "binance", built / "BTCUSDT-1.gz", *where, *chunk)  # known
    assert found_in(copied) == []
    said("reconstruct", "--depth", "5", "--cadence", "change,1s", *where, "--no-validate")
    assert found_in(copied) == []
    raw = built.parent / copied.parent.name / "again.gz"
    write(raw, simulated_lines(40, "spot", "XRPUSDT", 5))
    with monkeypatch.context() as patched:
        patched.setattr(Warehouse, "_publish", die)
        with pytest.raises(Killed):
            invoke("ingest", "binance", raw, *where, *chunk, "--no-validate")
    assert {one["table"] for one in found_in(copied)} >= {"events", "files"}  # not taken back yet
    said("ingest", "binance", raw, *where, *chunk, "--no-validate")
    assert found_in(copied) == []
    write(raw, simulated_lines(60, "spot", "XRPUSDT", 5))
    said("ingest", "binance", raw, "--replace", *where, *chunk, "--no-validate")
    assert found_in(copied) == []
    said("reconstruct", *where, "--no-validate")
    assert found_in(copied, deep=True) == []


LAST, EARLIER = -1, 1


@pytest.mark.parametrize(
    ("table", "which", "how"),
    [
        *((table, LAST, how) for table in ("events", "written", "runs") for how in (truncate, empty, remove)),
        *((table, LAST, flip) for table in ("events", "written")),
        *((table, EARLIER, remove) for table in ("events", "written", "runs")),
        *((table, LAST, truncate) for table in ("books", "files", "fidelity")),
    ],
)
def test_damaged_log_is_found_and_restored_from_its_copy(built, copied, table, which, how):
    commit = commits(copied, table)[which]
    how(commit)
    told = invoke("verify", "--warehouse", copied, "--json")
    assert told.exit_status == 1
    findings = told.summary["findings"]
    assert named(findings) == {(table, f"_delta_log/{commit.name}")}
    before = state(copied)
    dry = said("restore", "--warehouse", copied)
    assert commit.name in dry.stdout and "--yes" in dry.stdout
    assert state(copied) == before
    run_as_told(findings[0]["remedy"])
    assert found_in(copied) == []
    assert books(copied) == books(built / "w")
    if how is remove:  # and runs go on
        said("validate", "--warehouse", copied)
        assert found_in(copied) == []


@pytest.mark.parametrize(
    ("table", "how"),
    [
        *(
            (table, how)
            for table in ("events", "books", "written")
            for how in (remove, truncate, flip, rewrite)
        ),
        *(
            (table, flip)
            for table in ("checkpoints", "coverage", "golden", "hours", "samples", "validations")
        ),
        ("hours", empty),
    ],
)
def test_damaged_data_file_is_found_with_its_chunks_and_a_remedy(copied, table, how):
    path = live(copied, table)
    before = path.read_bytes()
    how(path)
    assert not path.exists() or path.read_bytes() != before
    (finding,) = found_in(copied)
    assert (finding["table"], finding["file"]) == (table, str(path.relative_to(copied / table)))
    assert finding["remedy"].startswith("deltabook restore")
    if table in ("events", "books", "checkpoints"):
        assert len(finding["hours"]) == 1
        assert finding["hours"][0].startswith("BINANCE ") and finding["hours"][0].endswith("Z")


@pytest.mark.parametrize(
    ("spoiled", "how"),
    [
        (("books", "coverage"), flip),
        (("checkpoints", "samples"), remove),
        (("verdicts", "fidelity"), truncate),
    ],
)
def test_damaged_books_are_rebuilt_with_equal_rows(built, copied, spoiled, how):
    for table in spoiled:
        how(live(copied, table))
    findings = found_in(copied)
    assert {one["table"] for one in findings} == set(spoiled)
    longest = max((one["remedy"] for one in findings), key=len)
    before = state(copied)
    assert "nothing changed" in said("restore", "--rebuild", "--warehouse", copied).stdout
    assert state(copied) == before
    run_as_told(longest)
    assert found_in(copied) == []
    assert books(copied) == books(built / "w")


def test_damaged_events_are_ingested_again_from_originals_and_copies(built, copied, tmp_path):
    flip(live(copied, "events"))
    (finding,) = found_in(copied)
    original = built / "BTCUSDT-0.gz"
    moved = original.rename(original.with_suffix(".moved"))
    try:
        run_as_told(finding["remedy"], tmp_path / "new")
        again = invoke("restore", "--from-archive", "--into", tmp_path / "new", "--warehouse", copied)
    finally:
        moved.rename(original)
    assert again.exit_status == 2 and "expected a new folder" in again.said
    said("reconstruct", "--warehouse", tmp_path / "new", "--no-validate")
    assert found_in(tmp_path / "new", deep=True) == []
    assert books(tmp_path / "new") == books(built / "w")


def test_raw_file_that_is_lost_with_its_copy_is_found(built, copied, tmp_path):
    (row,) = (
        row
        for row in open_table(copied, tables.FILES).to_pyarrow_table().to_pylist()
        if "BTCUSDT-1" in row["path"]
    )
    hidden = [path.rename(f"{path}.hidden") for path in (Path(row["path"]), copied / row["archived"])]
    try:
        deep = found_in(copied, deep=True)
        run = invoke("restore", "--from-archive", "--into", tmp_path / "new", "--warehouse", copied, "--json")
    finally:
        for path in hidden:
            path.rename(path.with_suffix(""))
    assert named(deep) == {("files", row["path"])}
    assert run.exit_status == 3
    assert [one["path"] for one in run.summary["refused"]] == [row["path"]]
    assert len(open_table(tmp_path / "new", tables.FILES).to_pyarrow_table()) == 3


def test_run_is_restored_and_later_raw_files_are_listed_and_ingested_again(built, copied):
    runs = sorted(
        open_table(copied, tables.RUNS).to_pyarrow_table().to_pylist(), key=lambda row: row["finished"]
    )
    second = runs[1]["run_id"]
    done = said("restore", "--run", second, "--yes", "--warehouse", copied, "--json").summary
    assert done["undone"] == [run["run_id"] for run in runs[2:]]
    assert {Path(path).name for path in done["ingest_again"]} == {"BTCUSDT-1.gz", "ETHUSDT-1.gz"}
    assert found_in(copied) == []
    assert (
        len(open_table(copied, tables.EVENTS).to_pyarrow_table()) == json.loads(runs[0]["summary"])["events"]
    )
    where = ("--warehouse", copied, "--no-validate")
    said("ingest", "binance", *done["ingest_again"], "--chunk", "5s", *where)
    said("reconstruct", *where)
    assert found_in(copied) == []
    assert books(copied) == books(built / "w")
    unknown = invoke("restore", "--run", "19700101T000000-00000000", "--warehouse", copied)
    assert unknown.exit_status == 2 and "the newest runs: " in unknown.said


def test_newest_intact_run_is_restored(copied):
    events = open_table(copied, tables.EVENTS)
    first, second = (
        set(DeltaTable(str(copied / "events"), version=version).file_uris())
        for version in (1, events.version())
    )
    remove(Path(sorted(second - first)[0]))
    done = said("restore", "--yes", "--warehouse", copied, "--json").summary
    assert len(done["undone"]) == 3
    assert found_in(copied) == []


def test_repair_of_logs_undoes_no_run_even_if_data_files_are_damaged_too(built, copied):
    truncate(commits(copied, "events")[LAST])
    flip(live(copied, "books"))
    remedies = {one["table"]: one["remedy"] for one in found_in(copied)}
    done = said(*shlex.split(remedies["events"])[1:], "--json").summary
    assert (done["undone"], {one["table"] for one in found_in(copied)}) == ([], {"books"})
    run_as_told(remedies["books"])
    assert found_in(copied) == []
    assert books(copied) == books(built / "w")


def delete_rows(warehouse: Path) -> None:
    DeltaTable(str(warehouse / "books")).delete("symbol = 'BTC-USDT' AND status = 'verified'")


def delete_run(warehouse: Path) -> None:
    runs = DeltaTable(str(warehouse / "runs"))
    newest = max(runs.to_pyarrow_table(columns=["finished"])["finished"].to_pylist())
    runs.delete(f"finished = {newest}")


def edit_run(warehouse: Path) -> None:
    DeltaTable(str(warehouse / "runs")).update(updates={"settings_hash": "'0'"})


def lose_log_of_runs(warehouse: Path) -> None:
    shutil.rmtree(warehouse / "runs" / "_delta_log")


@pytest.mark.parametrize(
    ("edit", "table"),
    [(delete_rows, "books"), (delete_run, "runs"), (edit_run, "runs"), (lose_log_of_runs, "runs")],
)
def test_table_changed_by_hand_is_found_and_rolled_back(built, copied, edit: Callable, table):
    edit(copied)
    findings = found_in(copied)
    assert {one["table"] for one in findings} == {table}
    if table == "runs":  # it tells what is published: no run goes on from it
        refused = invoke("validate", "--warehouse", copied)
        assert refused.exit_status == 2 and "runs" in refused.said
    run_as_told(findings[0]["remedy"])
    assert found_in(copied) == []
    assert books(copied) == books(built / "w")


@pytest.mark.parametrize("is_copied", [True, False])
def test_lost_row_of_the_newest_run_is_restored_and_without_a_copy_undoes_that_run(copied, is_copied):
    if not is_copied:  # as earlier versions have left it
        shutil.rmtree(copied / "_copies")
    newest = max(
        open_table(copied, tables.RUNS).to_pyarrow_table().to_pylist(), key=lambda row: row["finished"]
    )
    for path in (copied / "runs").glob("*.parquet"):
        if pq.ParquetFile(path).read(["run_id"])["run_id"][0].as_py() == newest["run_id"]:
            path.unlink()
    findings = found_in(copied)
    assert "runs" in {one["table"] for one in findings}
    said("restore", "--yes", "--warehouse", copied)
    assert found_in(copied) == []
    left = open_table(copied, tables.RUNS).to_pyarrow_table()["run_id"].to_pylist()
    assert len(left) == (6 if is_copied else 5)
    assert (newest["run_id"] in left) == is_copied


@pytest.mark.parametrize("is_copied", [True, False])
def test_damaged_records_are_restored_or_recorded_again(built, copied, is_copied):
    if not is_copied:  # as earlier versions have left it
        shutil.rmtree(copied / "_copies")
    flip(live(copied, "written"))
    (finding,) = found_in(copied)
    done = said("restore", "--yes", "--warehouse", copied, "--json").summary
    assert finding["table"] == "written"
    assert (done["recorded_again"] > 0) != is_copied
    assert found_in(copied) == []
    flip(live(copied, "events"))
    assert {one["table"] for one in found_in(copied)} == {"events"}


def changed(table: Table, **values: object) -> Callable[[Warehouse], None]:
    """A run that writes a small table with other values in one row."""

    def work(warehouse: Warehouse) -> None:
        rows = warehouse.rows(table)
        warehouse.overwrite(table, [rows[0] | values, *rows[1:]])

    return work


@pytest.mark.parametrize(
    ("work", "table", "problem"),
    [
        (changed(tables.FILES, events=1), "events", "where the ledger has 1"),
        (changed(tables.FILES, golden=10**6), "golden", "where the ledger has 1,000,000"),
        (changed(tables.FILES, quarantined=7), "quarantine", "where the ledger has 7"),
        (changed(tables.FILES, path="/elsewhere"), "events", "which is not in the ledger"),
        (
            changed(tables.HOURS, first_sequence=2**50, last_sequence=2**50),
            "hours",
            "outside the id boundaries",
        ),
        (changed(tables.HOURS, hour=0), "hours", "no id boundaries"),
        (lambda one: one.delete(tables.CHECKPOINTS, "symbol = 'BTC-USDT'"), "checkpoints", "have no books"),
        (lambda one: one.delete(tables.EVENTS, "symbol = 'BTC-USDT'"), "books", "have no events"),
    ],
)
def test_counts_that_differ_from_the_ledger_are_found(copied, work, table, problem):
    warehouse = Warehouse.without_spark(load_settings(None, {"warehouse": copied}))
    with warehouse.writing("validate"):
        work(warehouse)
    told = [one["problem"] for one in found_in(copied) if one["table"] == table]
    assert any(problem in one for one in told), told


def test_warehouse_with_a_writer_is_compared_as_published(copied):
    delete_rows(copied)
    with FileLock(copied / ".lock"):
        told = said("verify", "--warehouse", copied, "--json").summary
    assert (told["is_written"], told["findings"]) == (True, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("verify", "--warehouse", "nowhere"),
        ("restore", "--warehouse", "nowhere"),
        ("restore", "--from-archive"),
        ("restore", "--into", "new"),
        ("restore", "--rebuild", "--run", "x"),
    ],
)
def test_wrong_usage_is_reported_in_one_message(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = invoke(*arguments)
    assert outcome.exit_status == 2
    assert outcome.stderr.startswith("deltabook: ") and outcome.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_damaged_file_of_earlier_runs_is_no_finding_but_they_cannot_be_restored(copied):
    then = DeltaTable(str(copied / "files"), version=1).get_add_actions(flatten=True)["path"].to_pylist()
    flip(copied / "files" / then[0])
    told = said("verify", "--deep", "--warehouse", copied, "--json").summary
    assert (told["findings"], told["runs"], len(told["restorable"])) == ([], 5, 3)


def test_checkpoint_replaces_earlier_commits_and_is_discarded_if_damaged(built, copied):
    warehouse = Warehouse.without_spark(load_settings(None, {"warehouse": copied}))
    with warehouse.writing("validate"):
        warehouse.overwrite(tables.FILES, warehouse.rows(tables.FILES))
        open_table(copied, tables.FILES).create_checkpoint()
    assert found_in(copied) == []
    (checkpoint,) = (copied / "files" / "_delta_log").glob("*.checkpoint.parquet")
    first = commits(copied, "files")[0]
    content = first.read_bytes()
    first.unlink()  # as Delta itself does with old ones
    assert found_in(copied) == []
    first.write_bytes(content)
    flip(checkpoint)
    assert named(found_in(copied)) == {("files", f"_delta_log/{checkpoint.name}")}
    said("restore", "--yes", "--warehouse", copied)
    assert found_in(copied) == []
    assert books(copied) == books(built / "w")
