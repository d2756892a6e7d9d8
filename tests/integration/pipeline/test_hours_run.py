"""Rebuild chunks by command: a late file rebuilds only affected chunks, and time grids have exact rows."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

import pyarrow as pa
import pytest
from captures import depth_rows, message_of, write
from faulted import BOOK, books, build, edited, lake, of_table, rows

import deltabook.jobs.pipeline.reconstruct
from deltabook.expectations.suites import SUITES
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.schemas import tables
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.names import HOUR, RowPolicy
from deltabook.udfs.numbers.encoding import Scaled
from deltabook.udfs.rebuild.checkpoints import restore_book_state
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.storage.event_files import read_checkpoint, read_events

pytestmark = pytest.mark.spark

START = 1_723_161_255_000_000_000 // HOUR * HOUR
SECOND_MS, SECOND = 1_000, 1_000_000_000
STORED = ("exchange", "symbol", "hour")
OF_BOOKS = (*BOOK, "hour", "buy_volume", "sell_volume", "ofi", "crossed", "bid_levels", "ask_levels")


@pytest.fixture(scope="module")
def five_hours(spark, tmp_path_factory):
    """A capture whose messages lie 36 s apart, over five hours, with a snapshot each 1.5; its warehouse."""
    folder = tmp_path_factory.mktemp("hours")
    lines = list(capture_lines(Market(9, start_time=START + HOUR // 2), 350, "BTCUSDT", snapshot_every=150))
    slow = [stretched(line) for line in lines]
    run = build("binance", [write(folder / "raw.gz", slow)], folder / "w")
    assert (run.exit_status, run.summary["gaps"]) == (0, 0), run.said
    assert run.summary["symbol_hours"] == 5
    return slow, folder / "w"


def stretched(line: bytes) -> bytes:
    """A line, 100 ms of which are 36 s, received and stamped."""
    message, received = message_of(line), int(line.split(b" ", 1)[0])
    first = START + HOUR // 2
    times = {
        name: (first + (message[name] * 10**6 - first) * 360) // 10**6 for name in "ET" if name in message
    }
    return b"%d " % (first + (received - first) * 360) + edited(line, **times).split(b" ", 1)[1]


def kept_of(warehouse, table, *left_out: str) -> list[str]:
    found = rows(warehouse, table)
    return sorted(
        repr({name: row[name] for name in row if name not in (*left_out, "source_file", "source_row")})
        for row in found
    )


def all_of(warehouse) -> dict[str, list[str]]:
    kept = (tables.BOOKS, tables.CHECKPOINTS, tables.GAPS, tables.CHECKS, tables.COVERAGE)
    return {table.name: kept_of(warehouse, table, "fingerprint") for table in kept}


def test_a_single_pass_and_parallel_replays_give_the_same_books(five_hours, tmp_path, monkeypatch):
    lines, warehouse = five_hours
    diffs = depth_rows(lines)
    lost = [diffs[100], diffs[222]]
    raw = write(tmp_path / "raw.gz", [line for row, line in enumerate(lines) if row not in lost])
    for at_once in (True, False):
        monkeypatch.setattr(
            deltabook.jobs.pipeline.reconstruct, "is_single_pass_faster", lambda *_, chosen=at_once: chosen
        )
        run = build("binance", [raw], tmp_path / str(at_once))
        assert run.summary["gaps_by_kind"] == {"sequence_gap": 2, "silence": 2}
    assert all_of(tmp_path / "True") == all_of(tmp_path / "False")
    assert all_of(tmp_path / "True")["books"] != all_of(warehouse)["books"]


@pytest.mark.parametrize("at_once", [True, False])
def test_late_file_rebuilds_its_chunk_and_those_up_to_the_next_snapshot(
    five_hours, tmp_path, monkeypatch, at_once
):
    lines = list(five_hours[0])
    monkeypatch.setattr(deltabook.jobs.pipeline.reconstruct, "is_single_pass_faster", lambda *_: at_once)
    # The second snapshot shows the whole book: what follows from it is the same, whatever came before.
    diffs = depth_rows(lines)
    second = [row for row, line in enumerate(lines) if b"lastUpdateId" in line and b"stream" not in line][1]
    last = message_of(lines[max(row for row in diffs if row < second)])["u"]
    build("binance", [write(tmp_path / "whole.gz", lines)], tmp_path / "deep", "--depth", 3000)
    known = [row for row in rows(tmp_path / "deep", tables.BOOKS) if row["sequence"] <= last]
    book = max(known, key=lambda row: row["sequence"])
    shown = {}
    for side in ("bid", "ask"):
        levels = zip(book[f"{side}_prices"], book[f"{side}_sizes"], strict=True)
        shown[f"{side}s"] = [[f"{Decimal(number).scaleb(-8):f}" for number in level] for level in levels]
        assert len(shown[f"{side}s"]) == book[f"{side}_levels"]
    lines[second] = edited(lines[second], lastUpdateId=last, **shown)
    build("binance", [write(tmp_path / "raw.gz", lines)], tmp_path / "once")
    late = diffs[20]
    build("binance", [write(tmp_path / "most.gz", lines[:late] + lines[late + 1 :])], tmp_path / "w")
    (gap,) = (row for row in rows(tmp_path / "w", tables.GAPS) if row["kind"] == "sequence_gap")
    assert (gap["resolved_sequence"], gap["hour"]) == (last, START)
    before = {path.name for path in (tmp_path / "w" / "books").rglob("*.parquet")}
    run = build("binance", [write(tmp_path / "late.gz", [lines[late]])], tmp_path / "w")
    assert run.summary["gaps"] == 0
    assert run.summary["symbol_hours_rebuilt"] == (gap["resolved_time"] - START) // HOUR + 1 == 3
    assert len({path.name for path in (tmp_path / "w" / "books").rglob("*.parquet")} - before) == 3
    assert all_of(tmp_path / "w") == all_of(tmp_path / "once")


def test_new_chunk_after_unchanged_chunks_opens_from_the_chunk_before_it(five_hours, tmp_path):
    lines, warehouse = five_hours
    trades = [row for row, line in enumerate(lines) if b"@trade" in line[:80]]
    last_hour = (START + 4 * HOUR) // 10**6
    new = {row for row, line in enumerate(lines) if message_of(line).get("E", 0) >= last_hour} | {trades[20]}
    parts = [[line for row, line in enumerate(lines) if (row in new) == late] for late in (False, True)]
    run = build("binance", [write(tmp_path / "most.gz", parts[0])], tmp_path / "w")
    assert (run.summary["symbol_hours"], run.summary["gaps_by_kind"]) == (4, {"trade_gap": 1})
    run = build("binance", [write(tmp_path / "late.gz", parts[1])], tmp_path / "w")
    assert run.summary["symbol_hours_rebuilt"] == 3  # the first, the last, and the one that opens it
    assert all_of(tmp_path / "w") == all_of(warehouse)


def test_chunks_of_any_length_give_the_same_books(five_hours, deltabook, tmp_path):
    lines, warehouse = five_hours
    raw = write(tmp_path / "raw.gz", lines)
    for chunk, hours in (("10m", 22), ("1d", 2)):
        deltabook("ingest", "binance", raw, "--warehouse", tmp_path / chunk, "--chunk", chunk)
        run = deltabook("reconstruct", "--warehouse", tmp_path / chunk, "--json")
        assert run.summary["symbol_hours"] == hours
        for table in (tables.BOOKS, tables.GAPS):
            assert kept_of(tmp_path / chunk, table, "hour") == kept_of(warehouse, table, "hour")
    other = write(tmp_path / "other.gz", lines[:-1])
    again = deltabook("ingest", "binance", other, "--warehouse", tmp_path / "1d")
    assert again.exit_status == 2
    assert "has chunks of 1d, not of 1h: give --chunk 1d" in again.said


def test_books_of_an_earlier_run_can_be_rebuilt(five_hours, deltabook, tmp_path):
    lines, _ = five_hours
    half = depth_rows(lines)[170]
    for name, part in (("a.gz", lines[:half]), ("b.gz", lines[half:])):
        build("binance", [write(tmp_path / name, part)], tmp_path / "w")
    first = sorted((row["finished"], row["run_id"]) for row in rows(tmp_path / "w", tables.RUNS))[1][1]
    before = books(tmp_path / "w")
    how = ("reconstruct", "--warehouse", tmp_path / "w", "--as-of", first, "--json")
    run = deltabook(*how)
    assert (run.exit_status, run.summary["differing"], run.summary["symbol_hours"]) == (0, [], 3), run.said
    assert deltabook(*how).summary["digest"] == run.summary["digest"]
    assert books(tmp_path / "w") == before
    assert "used other settings" in deltabook(*how, "--depth", 5).said
    assert first in deltabook(*how[:3], "--as-of", "none").said


def test_grids_have_the_last_row_of_each_step_and_the_sums_of_all(five_hours, tmp_path):
    lines, warehouse = five_hours
    build("binance", [write(tmp_path / "raw.gz", lines)], tmp_path / "w", "--cadence", "5m,1h")
    changes = sorted(rows(warehouse, tables.BOOKS), key=lambda row: (row["order_time"], row["sequence"]))
    for table, cadence, seconds in ((tables.BOOKS, "5m", 300), (tables.GRIDS, "1h", 3600)):
        steps = defaultdict(list)
        for row in changes:
            steps[row["hour"], row["order_time"] // (seconds * SECOND)].append(row)
        expected = []
        for found in steps.values():
            sums = {
                name: sum(row[name] for row in found) for name in ("trade_count", "buy_volume", "sell_volume")
            }
            flow = [sum(level) for level in zip(*(row["ofi"] for row in found), strict=True)]
            expected.append(repr(found[-1] | sums | {"ofi": flow, "cadence": cadence}))
        assert sorted(map(repr, rows(tmp_path / "w", table))) == sorted(expected)
        assert 3 < len(expected) < len(changes) / 5


def test_several_cadences_in_one_pass_do_not_affect_each_other(five_hours, deltabook, tmp_path):
    lines, warehouse = five_hours
    raw = write(tmp_path / "raw.gz", lines)
    build("binance", [raw], tmp_path / "w", "--cadence", "change,5m,1h")
    build("binance", [raw], tmp_path / "alone", "--cadence", "5m")
    assert all_of(tmp_path / "w")["books"] == all_of(warehouse)["books"]
    grids = rows(tmp_path / "w", tables.GRIDS)
    assert {row["cadence"] for row in grids} == {"5m", "1h"}
    alone = rows(tmp_path / "alone", tables.BOOKS)
    assert sorted(repr(row) for row in grids if row["cadence"] == "5m") == sorted(map(repr, alone))
    count = "SELECT cadence, count(*) n, max(mid) > 0 sane FROM grid GROUP BY cadence ORDER BY n"
    run = deltabook("sql", count, "--warehouse", tmp_path / "w", "--format", "csv")
    assert run.stdout.split() == ["cadence,n,sane", "1h,4,True", f"5m,{len(alone)},True"]
    runs = "SELECT count(*) n, count(DISTINCT command) jobs FROM runs"
    run = deltabook("sql", runs, "--warehouse", tmp_path / "w", "--format", "csv")
    assert run.stdout.split() == ["n,jobs", "2,2"]
    again = deltabook("reconstruct", "--warehouse", tmp_path / "w", "--cadence", "7m")
    assert (again.exit_status, "cannot be cut into steps" in again.said) == (2, True)
    run = build("binance", [write(tmp_path / "b.gz", lines[:-1])], tmp_path / "w", "--cadence", "change")
    assert run.exit_status == 0
    assert rows(tmp_path / "w", tables.GRIDS) == []


def test_full_depth_shows_every_level(five_hours, tmp_path):
    lines, _ = five_hours
    build("binance", [write(tmp_path / "raw.gz", lines[:200])], tmp_path / "w", "--depth", "full")
    found = rows(tmp_path / "w", tables.BOOKS)
    assert max(row["bid_levels"] for row in found) > 500
    for row in found:
        assert (row["bid_levels"], row["ask_levels"]) == (len(row["bid_prices"]), len(row["ask_prices"]))


def test_a_checkpoint_within_a_chunk_starts_the_rest_of_it(five_hours, tmp_path):
    lines, _ = five_hours
    raw = write(tmp_path / "raw.gz", lines)
    build("binance", [raw], tmp_path / "w", "--checkpoint-every", 100)
    kept = rows(tmp_path / "w", tables.CHECKPOINTS, "hour", "event", "sequence", "bid_prices", "ask_prices")
    (known,) = files_of(tmp_path / "w", tables.CHECKPOINTS, START + HOUR)
    (events,) = files_of(tmp_path / "w", tables.EVENTS, START + HOUR)
    within = sorted(row["event"] for row in kept if row["hour"] == START + HOUR)
    assert within[0] == 0 and len(within) > 3
    whole = replayed(known, events, 0)
    assert len(whole) > 50
    for event in within[1:]:
        part = replayed(known, events, event)
        assert part == whole[-len(part) :]
        assert 0 < len(part) < len(whole)


def files_of(warehouse, table, hour):
    found = open_table(warehouse, table).get_add_actions(flatten=True)
    return [
        f"{(warehouse / table.name).as_uri()}/{row['path']}"
        for row in pa.table(found).to_pylist()
        if row["min.hour"] == hour
    ]


def replayed(checkpoints, events, event) -> list[str]:
    """Rows of the hour's books from an event on."""
    numbers = Scaled(8, 8)
    opening = restore_book_state(read_checkpoint(checkpoints, "BINANCE", START + HOUR, event), numbers)
    building = Rebuilder("BINANCE", "BTC-USDT", FEEDS["binance"], RowPolicy(), numbers, opening)
    batches = pa.Table.from_batches(read_events(events, "BINANCE", "BTC-USDT", START + HOUR))
    rest = batches.slice(event).combine_chunks().to_batches()[0]
    return list(map(repr, building.apply_events(rest).to_pylist()))


def test_on_gap_leaves_out_suspect_rows_or_ends_the_run(five_hours, deltabook, tmp_path):
    lines, _ = five_hours
    lost = depth_rows(lines)[100]
    kept = lines[:lost] + lines[lost + 1 :]
    shows = min(row for row in depth_rows(kept) if row >= lost)
    raw = write(tmp_path / "raw.gz", kept)
    build("binance", [raw], tmp_path / "flag")
    flagged = rows(tmp_path / "flag", tables.BOOKS, "status", *OF_BOOKS)
    assert {"suspect", "verified"} < {row["status"] for row in flagged}
    run = build("binance", [raw], tmp_path / "wait", "--on-gap", "wait")
    assert run.summary["gaps_by_kind"] == {"sequence_gap": 1, "silence": 1}
    waited = rows(tmp_path / "wait", tables.BOOKS, "status", *OF_BOOKS)
    assert sorted(map(repr, waited)) == sorted(repr(row) for row in flagged if row["status"] != "suspect")
    judged = deltabook("validate", "--warehouse", tmp_path / "wait", "--json")
    assert judged.summary["verdicts"] == dict.fromkeys(SUITES, "passed") | {"events": "failed"}
    deltabook("ingest", "binance", raw, "--warehouse", tmp_path / "raise")
    run = deltabook("reconstruct", "--warehouse", tmp_path / "raise", "--on-gap", "raise")
    assert run.exit_status == 2
    assert "sequence_gap at sequence" in run.said
    assert f"row {shows + 1}" in run.said
    assert "--on-gap flag" in run.said
    assert rows(tmp_path / "raise", tables.BOOKS) == []


def test_silence_is_recorded_and_no_time_of_it_is_verified(five_hours, tmp_path):
    lines, warehouse = five_hours
    (config := tmp_path / "settings.yaml").write_text("silence_seconds: 30\n")
    build("binance", [write(tmp_path / "raw.gz", lines)], tmp_path / "w", config=config)
    silences = [row for row in rows(tmp_path / "w", tables.GAPS) if row["kind"] == "silence"]
    assert len(silences) > 300
    for gap in silences:
        assert gap["found"] - gap["from_time"] > 30 * SECOND
        assert (gap["expected"], gap["resolved_time"]) == (gap["from_time"] + 30 * SECOND, gap["found"])
    covered = rows(tmp_path / "w", tables.COVERAGE)
    silent = sum(gap["found"] - gap["expected"] for gap in silences)
    assert sum(row["silent"] for row in covered) == silent > 0
    whole = rows(warehouse, tables.COVERAGE)
    assert sum(row["silent"] for row in whole) == 0
    for row, undisturbed in zip(covered, whole, strict=True):
        assert (
            row["verified"] + row["silent"] + row["unseeded"]
            == undisturbed["verified"] + undisturbed["unseeded"]
        )
    assert books(tmp_path / "w") == books(warehouse)


def test_crossed_book_is_one_gap_from_its_first_to_its_last_row(spark, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = lake(tmp_path / "lake")
    deltas = of_table(files, "book_delta_v2")
    table = pq.ParquetFile(deltas).read()
    sequence = table["sequence_number"].to_pylist()
    at = sequence.index(sorted(set(sequence))[30])
    bid = table.slice(at, 1).to_pylist()[0]
    high = max(row["price"] for row in table.to_pylist()) + 1
    crossing = [bid | {"side_is_bid": True, "price": high, "size": 1.0}]
    ending_at = sequence.index(sorted(set(sequence))[40])
    ending = [table.slice(ending_at, 1).to_pylist()[0] | {"side_is_bid": True, "price": high, "size": 0.0}]
    parts = [
        table.slice(0, at),
        pa.Table.from_pylist(crossing, schema=table.schema),
        table.slice(at, ending_at - at),
    ]
    parts += [pa.Table.from_pylist(ending, schema=table.schema), table.slice(ending_at)]
    pq.write_table(pa.concat_tables(parts), deltas)
    run = build("crypto_lake", files, tmp_path / "w", "--repair", "none", "--seed", "none")
    assert run.summary["gaps_by_kind"] == {"crossed_book": 1}
    (gap,) = rows(tmp_path / "w", tables.GAPS)
    found = rows(tmp_path / "w", tables.BOOKS, "sequence", "crossed", "status")
    crossed = [row for row in found if row["crossed"]]
    assert {row["status"] for row in crossed} == {"suspect"}
    assert gap["updates_affected"] == len(crossed) > 1
    assert (gap["sequence"], gap["resolved_by"]) == (min(row["sequence"] for row in crossed), "book_update")
    assert gap["resolved_sequence"] > max(row["sequence"] for row in crossed)
