"""Faults put into captures, through the command: what must happen happens, and nothing else is lost."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captures import depth_rows, message_of, simulated_lines, write
from conftest import Outcome, invoke

from deltabook.jobs.published import open_table
from deltabook.schemas import tables
from deltabook.schemas.tables import Table
from deltabook.udfs.simulator import crypto_lake, kraken, tardis
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

BOOK = ("sequence", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes", "status", "trade_count")
DAY = 86_400_000


def build(deltabook, source: str, *arguments: object):
    """Ingest and reconstruct; the last outcome, with both summaries."""
    *files, _, warehouse, _ = arguments
    seed = ("--seed", "golden") if "golden" in files else ()
    files = [file for file in files if file not in ("--seed", "golden")]
    taken = deltabook("ingest", source, *files, *into(warehouse))
    if taken.exit_status:
        return taken
    built = deltabook("reconstruct", *seed, *into(warehouse))
    return Outcome(built.exit_status, json.dumps(taken.summary | built.summary), taken.stderr + built.stderr)


def into(warehouse: Path) -> tuple[object, ...]:
    return "--warehouse", warehouse, "--json"


def rows(warehouse: Path, table: Table, *columns: str) -> list[dict]:
    if not (warehouse / table.name).exists():
        return []
    return open_table(warehouse, table).to_pyarrow_table(columns=list(columns) or None).to_pylist()


def books(warehouse: Path, *names: str) -> list[tuple]:
    """Rows of `books` as plain values, in order."""
    found = rows(warehouse, tables.BOOKS, *(names or BOOK), "order_time", "symbol")
    return sorted(repr(tuple(row.values())) for row in found)


def edited(line: bytes, **changes: object) -> bytes:
    """A capture line with fields of its message changed."""
    received, text = line.split(b" ", 1)
    message = json.loads(text)
    message.get("data", message).update(changes)
    return received + b" " + json.dumps(message, separators=(",", ":")).encode() + b"\n"


def lake(folder: Path, seeded: bool = True, **options: object) -> list[Path]:
    feed = crypto_lake.tables(Market(5), 60, "BINANCE", "BTC-USDT", seeded=seeded, book_every=5, **options)
    return crypto_lake.write_tables(feed, folder)


@pytest.fixture(scope="module")
def sound(spark, tmp_path_factory):
    """A capture without faults, its lines and its warehouse."""
    folder = tmp_path_factory.mktemp("sound")
    lines = list(simulated_lines(60))
    raw = write(folder / "raw.gz", lines)
    assert build(invoke, "binance", raw, *into(folder / "w")).exit_status == 0
    return lines, folder / "w"


def test_files_that_cannot_be_read_are_refused_whole_and_the_others_go_in(deltabook, spark, tmp_path):
    lines = list(simulated_lines(60))
    good = write(tmp_path / "raw" / "good.gz", lines)
    data = good.read_bytes()
    (tmp_path / "raw" / "truncated.gz").write_bytes(gzip.compress(b"".join(lines[::-1]))[:-900])
    (tmp_path / "raw" / "crc.gz").write_bytes(data[:-8] + bytes(4) + data[-4:])
    (tmp_path / "raw" / "truncated.zip").write_bytes(b"PK\x03\x04 no directory at the end")
    mixed = [edited(lines[row], E=message_of(lines[row])["E"] * 1000) for row in depth_rows(lines)[-1:]]
    write(tmp_path / "raw" / "mixed.jsonl", lines[:-40] + mixed, compress=False)
    (tmp_path / "raw" / "bomb.gz").write_bytes(gzip.compress((b" " * (1 << 20) + b"\n") * 24, 9))
    (tmp_path / "raw" / "line.txt").write_bytes(b"x" * (65 << 20))
    run = deltabook("ingest", "binance", tmp_path / "raw", *into(tmp_path / "w"))
    assert run.exit_status == 3
    reasons = {Path(refused["path"]).name: refused["reason"] for refused in run.summary["refused"]}
    assert reasons.keys() == {"truncated.gz", "crc.gz", "truncated.zip", "mixed.jsonl", "bomb.gz", "line.txt"}
    assert "EOFError" in reasons["truncated.gz"]
    assert "CRC" in reasons["crc.gz"]
    assert "BadZipFile" in reasons["truncated.zip"]
    assert "mix units" in reasons["mixed.jsonl"]
    assert "grows more than" in reasons["bomb.gz"]
    assert "longer than 64 MiB" in reasons["line.txt"]
    assert {row["source_file"] for row in rows(tmp_path / "w", tables.EVENTS)} == {str(good)}
    states = {Path(row["path"]).name: row["state"] for row in rows(tmp_path / "w", tables.FILES)}
    assert states == {"good.gz": "ingested"} | dict.fromkeys(reasons, "failed")
    assert spark.conf.get("spark.sql.files.ignoreCorruptFiles") == "false"


def test_half_written_or_drifted_parquet_is_refused_by_name(deltabook, tmp_path):
    files = lake(tmp_path / "lake")
    deltas = next(file for file in files if "book_delta_v2" in str(file))
    table = pq.ParquetFile(deltas).read()
    folder = deltas.parent
    (folder / "half.parquet").write_bytes(deltas.read_bytes()[: deltas.stat().st_size // 2])
    pq.write_table(table.rename_columns({"side_is_bid": "is_bid"}), folder / "renamed.parquet")
    pq.write_table(table.drop_columns(["size"]), folder / "missing.parquet")
    ids = pa.array([float(n) for n in table["sequence_number"].to_pylist()])
    retyped = table.set_column(table.schema.get_field_index("sequence_number"), "sequence_number", ids)
    pq.write_table(retyped, folder / "retyped.parquet")
    run = deltabook("ingest", "crypto_lake", tmp_path / "lake", *into(tmp_path / "w"))
    assert run.exit_status == 3
    reasons = {Path(refused["path"]).name: refused["reason"] for refused in run.summary["refused"]}
    assert reasons.keys() == {f"{name}.parquet" for name in ("half", "renamed", "missing", "retyped")}
    assert "side_is_bid" in reasons["renamed.parquet"]
    assert "size" in reasons["missing.parquet"]
    assert "sequence_number" in reasons["retyped.parquet"]
    assert run.summary["level_changes"] == table.num_rows


def test_order_of_lines_and_files_does_not_matter(deltabook, sound, tmp_path):
    lines, warehouse = sound
    halves = [lines[len(lines) // 2 :][::-1], lines[: len(lines) // 2][::-1]]
    for number, half in enumerate(halves):
        raw = write(tmp_path / f"{number}.gz", half)
        run = build(deltabook, "binance", raw, *into(tmp_path / "w"))
    assert run.exit_status == 0
    assert books(tmp_path / "w") == books(warehouse)


def test_order_of_lake_rows_and_their_doubling_do_not_matter(deltabook, tmp_path):
    straight, shuffled = lake(tmp_path / "a"), lake(tmp_path / "b")
    deltas = next(file for file in shuffled if "book_delta_v2" in str(file))
    table = pq.ParquetFile(deltas).read()
    pq.write_table(table.slice(0, 700), deltas, row_group_size=97)  # cut within a message, and overlapping
    pq.write_table(
        table.slice(640).take(list(range(table.num_rows - 641, -1, -1))), deltas.parent / "2.parquet"
    )
    for files, name in (
        (straight, "one"),
        (sorted(deltas.parent.parent.parent.parent.parent.rglob("*.parquet")), "other"),
    ):
        run = deltabook("run", "crypto_lake", *files, "--seed", "golden", *into(tmp_path / name))
        assert run.exit_status == 0, run.said
        assert run.summary["book_rows"].keys() <= {"unseeded", "unverifiable"}
        match = run.summary["golden_matches"]["vendor_book"]
        assert match["matched"] == match["compared"] > 5
    assert books(tmp_path / "one") == books(tmp_path / "other")


def test_feed_without_a_snapshot_invents_no_book(deltabook, tmp_path):
    files = lake(tmp_path / "lake", seeded=False)
    run = build(deltabook, "crypto_lake", *files, *into(tmp_path / "w"))
    assert run.summary["book_rows"] == {"unseeded": 1}
    assert rows(tmp_path / "w", tables.BOOKS, "bid_prices")[0] == {"bid_prices": []}
    assert [gap["kind"] for gap in rows(tmp_path / "w", tables.GAPS)] == ["missing_snapshot"]


def test_one_source_an_instrument(deltabook, sound, tmp_path):
    lines, _ = sound
    raw = write(tmp_path / "raw.gz", lines)
    deltabook("ingest", "binance", raw, "--warehouse", tmp_path / "w")
    run = deltabook("ingest", "crypto_lake", *lake(tmp_path / "lake"), *into(tmp_path / "w"))
    assert run.exit_status == 3
    assert all("is built from source binance here" in refused["reason"] for refused in run.summary["refused"])


def test_wild_stamps_are_recorded_and_move_nothing(deltabook, sound, tmp_path):
    lines, warehouse = sound
    lines = list(lines)
    wild = {}
    shifts = {0: DAY, 20: -DAY, 30: 3_600_000, 40: -3_600_000, -1: DAY}
    for place, shift in shifts.items():
        row = depth_rows(lines)[place]
        message = message_of(lines[row])
        wild[message["u"]] = (message["E"] + shift) * 1_000_000
        lines[row] = edited(lines[row], E=message["E"] + shift)
    run = build(deltabook, "binance", write(tmp_path / "raw.gz", lines), *into(tmp_path / "w"))
    assert run.exit_status == 0, run.said
    found = rows(tmp_path / "w", tables.GAPS)
    assert {gap["kind"] for gap in found} == {"clock_jump"}
    assert {gap["sequence"]: gap["found"] for gap in found} == wild
    names = [name for name in BOOK if name != "trade_count"]
    ours = {row["sequence"]: row for row in rows(tmp_path / "w", tables.BOOKS, "hour", *names)}
    theirs = {row["sequence"]: row for row in rows(warehouse, tables.BOOKS, "hour", *names)}
    assert ours == theirs


def set_back(message: dict, milliseconds: int) -> dict:
    return {name: message[name] - milliseconds for name in ("E", "T") if name in message}


def test_a_clock_that_is_set_back_moves_nothing(deltabook, sound, tmp_path):
    lines, warehouse = sound
    middle = depth_rows(lines)[30]
    behind = [
        edited(
            line,
            **{name: message_of(line)[name] - 7_200_000 for name in ("E", "T") if name in message_of(line)},
        )
        if row > middle and "e" in message_of(line)
        else line
        for row, line in enumerate(lines)
    ]
    run = build(deltabook, "binance", write(tmp_path / "raw.gz", behind), *into(tmp_path / "w"))
    assert run.exit_status == 0, run.said
    assert {gap["kind"] for gap in rows(tmp_path / "w", tables.GAPS)} == {"clock_jump"}
    names = [name for name in BOOK if name != "trade_count"]
    ours, theirs = (
        {row["sequence"]: row for row in rows(where, tables.BOOKS, *names)}
        for where in (tmp_path / "w", warehouse)
    )
    assert ours == theirs


BAD_NUMBERS = {"negative": "-1", "NaN": "NaN", "infinite": "Infinity", "too long": "1" * 40, "empty": ""}


def test_unreadable_numbers_are_quarantined_and_their_book_is_suspect(deltabook, tmp_path):
    lines = list(simulated_lines(60))
    picked = depth_rows(lines)[20 : 20 + len(BAD_NUMBERS)]
    for row, bad in zip(picked, BAD_NUMBERS.values(), strict=True):
        lines[row] = edited(lines[row], b=[["60000.1", bad]])
    raw = write(tmp_path / "raw.gz", lines)
    run = build(deltabook, "binance", raw, *into(tmp_path / "w"))
    assert run.summary["quarantined"] == len(BAD_NUMBERS)
    held = sorted(rows(tmp_path / "w", tables.QUARANTINE), key=lambda row: row["source_row"])
    assert [row["source_row"] for row in held] == [row + 1 for row in picked]
    assert [row["raw"] + b"\n" for row in held] == [lines[row] for row in picked]
    last = {row["sequence"]: row["status"] for row in rows(tmp_path / "w", tables.BOOKS)}
    first_bad = message_of(lines[picked[0]])["u"]
    assert {status for sequence, status in last.items() if sequence > first_bad} == {"suspect"}


def test_unreadable_rows_of_tables_are_quarantined_and_their_book_is_suspect(deltabook, tmp_path):
    files = lake(tmp_path / "lake")
    deltas = next(file for file in files if "book_delta_v2" in str(file))
    table = pq.ParquetFile(deltas).read()
    sizes = table["size"].to_pylist()
    bad = {-300: -1.0, -200: float("nan"), -100: float("inf")}
    for row, value in bad.items():
        sizes[row] = value
    pq.write_table(table.set_column(table.schema.get_field_index("size"), "size", pa.array(sizes)), deltas)
    lines = tardis.csv_lines(Market(5), 60, "binance-futures", "BTCUSDT")
    text = list(lines["incremental_book_L2"])
    text[-30] = text[-30].rsplit(",", 1)[0] + ",-5\n"
    csv = tardis.write_csv(text, tmp_path / "csv", "incremental_book_L2", "binance-futures", "BTCUSDT")
    dump = list(kraken.dump_lines(Market(5), 60, "XBT/USD", depth=100))
    broken = [row for row, line in enumerate(dump) if b'"c":"' in line][-20]
    dump[broken] = dump[broken].replace(b'"c":"', b'"c":"x')
    feeds = {
        "crypto_lake": (files, len(bad)),
        "tardis": (csv, 1),
        "kraken": ([kraken.write_dump(dump, tmp_path / "kraken")], 1),
    }
    for source, (paths, quarantined) in feeds.items():
        where = tmp_path / source
        seed = ("--seed", "golden") if source == "crypto_lake" else ()
        run = build(deltabook, source, *paths, *seed, *into(where))
        assert run.summary["quarantined"] == quarantined, source
        assert run.summary["book_rows"]["suspect"] > 0, source
        assert {gap["kind"] for gap in rows(where, tables.GAPS)} == {"quarantined_row"}, source
        assert len(rows(where, tables.QUARANTINE)) == quarantined


def test_a_wrong_checksum_makes_the_book_suspect(deltabook, tmp_path):
    dump = list(kraken.dump_lines(Market(5), 60, "XBT/USD", depth=100))
    changes = [row for row, line in enumerate(dump) if b'"c":"' in line]
    lost = dump[: changes[20]] + dump[changes[20] + 1 :]
    run = build(deltabook, "kraken", kraken.write_dump(lost, tmp_path), *into(tmp_path / "w"))
    assert {gap["kind"] for gap in rows(tmp_path / "w", tables.GAPS)} == {"checksum_failure"}
    assert run.summary["book_rows"]["suspect"] > 0


def test_numbers_are_stored_as_printed_or_refused(deltabook, tmp_path):
    lines = list(simulated_lines(60))
    at = depth_rows(lines)[-1]
    printed = edited(lines[at], b=[["60000.123456789012", "0.000000000001"]])
    fine = [*lines[:at], printed, *lines[at + 1 :]]
    raw = write(tmp_path / "fine.gz", fine)
    run = build(deltabook, "binance", raw, *into(tmp_path / "w"))
    assert run.exit_status == 0, run.said
    shown = deltabook(
        "sql",
        "SELECT price_scale, size_scale FROM instruments",
        "--warehouse",
        tmp_path / "w",
        "--format",
        "json",
    )
    assert json.loads(shown.stdout) == {"price_scale": 12, "size_scale": 12}
    prices = {price for row in rows(tmp_path / "w", tables.EVENTS) for price in row["data"]["bid_prices"]}
    assert 60000_123456789012 in prices
    # The scales are recorded: a number that needs more is refused, and its book is suspect from there.
    more = [edited(lines[at], U=10**12, u=10**12, b=[["1.0000000000001", "1"]])]
    run = deltabook("ingest", "binance", write(tmp_path / "more.gz", more), *into(tmp_path / "w"))
    assert run.exit_status == 0, run.said
    (held,) = rows(tmp_path / "w", tables.QUARANTINE)
    assert "does not fit int64 exactly at the instrument's scales, 12 for prices" in held["reason"]
    assert f"BINANCE BTC-USDT {10**12}" in held["reason"]
    run = deltabook("reconstruct", *into(tmp_path / "w"))
    assert run.summary["book_rows"]["suspect"] == 1


HOSTILE = ["BTC'; DROP TABLE events", "../../x", "A" * 41, "1' or '1'='1", "<script>", "ПТС", "__HIVE__"]


def test_hostile_names_are_refused_before_any_path(deltabook, tmp_path):
    lines = list(simulated_lines(40))
    at = depth_rows(lines)[10]
    bad = [edited(lines[at], s=name) for name in HOSTILE]
    raw = write(tmp_path / "raw.gz", [*lines, *bad])
    run = deltabook("ingest", "binance", raw, *into(tmp_path / "w"))
    assert (run.exit_status, run.summary["quarantined"]) == (0, len(HOSTILE))
    assert all("is refused" in row["reason"] for row in rows(tmp_path / "w", tables.QUARANTINE))
    assert {row["symbol"] for row in rows(tmp_path / "w", tables.EVENTS, "symbol")} == {"BTC-USDT"}
    files = lake(tmp_path / "lake")
    deltas = next(file for file in files if "book_delta_v2" in str(file))
    hostile = deltas.parents[1].parent / "symbol=1' or '1'='1" / "dt=2024-08-08" / "1.parquet"
    hostile.parent.mkdir(parents=True)
    deltas.rename(hostile)
    run = deltabook("ingest", "crypto_lake", hostile, *into(tmp_path / "l"))
    assert run.exit_status == 3
    assert "is refused: a name is 1 to 40 of" in run.summary["refused"][0]["reason"]


def test_the_same_again_writes_nothing_but_its_run(deltabook, sound, tmp_path):
    lines, _ = sound
    raw = write(tmp_path / "raw.gz", lines)
    run = deltabook("run", "binance", raw, *into(tmp_path / "w"))
    before = {table.name: open_table(tmp_path / "w", table).version() for table in made(tmp_path / "w")}
    renamed = tmp_path / "renamed.gz"
    raw.rename(renamed)
    again = deltabook("run", "binance", renamed, *into(tmp_path / "w"))
    after = {table.name: open_table(tmp_path / "w", table).version() for table in made(tmp_path / "w")}
    assert (again.summary["files_new"], again.summary["files_known"]) == (0, 1)
    assert after.pop("runs") == before.pop("runs") + 3
    assert after == before
    assert again.summary["verdicts"] == run.summary["verdicts"]


def made(warehouse: Path) -> list[Table]:
    return [table for table in tables.TABLES.values() if (warehouse / table.name / "_delta_log").exists()]


def test_a_slice_is_never_emptied_by_a_file_of_which_nothing_is_left(deltabook, sound, tmp_path):
    lines, _ = sound
    raw = write(tmp_path / "raw.gz", lines)
    build(deltabook, "binance", raw, "--warehouse", tmp_path / "w")
    before = books(tmp_path / "w")
    empty = write(tmp_path / "empty.gz", [])
    garbage = write(tmp_path / "garbage.gz", [b"no capture\n"])
    stale = write(tmp_path / "stale.gz", list(lines[:30]))
    run = build(deltabook, "binance", empty, garbage, stale, *into(tmp_path / "w"))
    assert run.exit_status == 3
    assert books(tmp_path / "w") == before


def test_a_table_of_another_schema_version_is_named(deltabook, spark, sound, tmp_path):
    lines, _ = sound
    deltabook("ingest", "binance", write(tmp_path / "raw.gz", lines), "--warehouse", tmp_path / "w")
    table = f"delta.`{tmp_path / 'w' / 'events'}`"
    spark.sql(f"ALTER TABLE {table} SET TBLPROPERTIES ('deltabook.schema_version' = '1')")
    run = deltabook("reconstruct", "--warehouse", tmp_path / "w")
    assert run.exit_status == 2
    assert "has schema version 1, this deltabook needs" in run.said and "new --warehouse" in run.said
