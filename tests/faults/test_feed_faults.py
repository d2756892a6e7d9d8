"""Faults in the order, the ids and the clocks of a feed, tested through the command line.

The rebuilt books are right, or their status says that they may be wrong.
"""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
from captures import depth_rows, message_of, write
from faulted import (
    books,
    books_by_id,
    build,
    edited,
    gap_kinds,
    into,
    lake,
    of_table,
    rows,
    sound_capture,
    versions,
)

from deltabook.schemas import tables
from deltabook.schemas.names import HOUR
from deltabook.udfs.simulator import kraken
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market

pytestmark = pytest.mark.spark

DAY_MS, HOUR_MS = 86_400_000, 3_600_000


@pytest.fixture(scope="module")
def sound(spark, tmp_path_factory):
    return sound_capture(tmp_path_factory.mktemp("sound"))


def test_order_of_lines_and_files_does_not_matter(sound, tmp_path):
    lines, warehouse = sound
    halves = [lines[len(lines) // 2 :][::-1], lines[: len(lines) // 2][::-1]]
    for number, half in enumerate(halves):
        run = build("binance", [write(tmp_path / f"{number}.gz", half)], tmp_path / "w")
    assert run.exit_status == 0
    assert books(tmp_path / "w") == books(warehouse)


def test_order_and_duplicates_of_lake_rows_do_not_matter(deltabook, tmp_path):
    straight, shuffled = lake(tmp_path / "a"), lake(tmp_path / "b")
    deltas = of_table(shuffled, "book_delta_v2")
    table = pq.ParquetFile(deltas).read()
    pq.write_table(table.slice(0, 700), deltas, row_group_size=97)  # cut within a message, and overlapping
    rest = table.slice(640)
    pq.write_table(rest.take(list(range(rest.num_rows))[::-1]), deltas.parent / "2.parquet")
    for files, name in ((straight, "one"), ([tmp_path / "b"], "other")):
        run = build("crypto_lake", files, tmp_path / name, "--seed", "golden")
        assert run.exit_status == 0, run.said
        assert run.summary["book_rows"].keys() <= {"unseeded", "unverifiable"}
    assert books(tmp_path / "one") == books(tmp_path / "other")
    judged = deltabook("validate", *into(tmp_path / "other"))
    match = judged.summary["golden_matches"]["vendor_book"]
    assert match["matched"] == match["compared"] > 5


def test_gap_across_a_chunk_boundary_is_one_gap_until_the_next_snapshot(spark, tmp_path):
    """The diffs on both sides of the edge are lost, and the file of the later hour comes first."""
    start = 1_723_161_255_000_000_000 // HOUR * HOUR + HOUR - 4_000_000_000
    lines = list(capture_lines(Market(9, start_time=start), 90, "BTCUSDT", snapshot_every=60))
    diffs = depth_rows(lines)
    edge = next(row for row in diffs if message_of(lines[row])["E"] * 1_000_000 >= start + 4_000_000_000)
    before, after = diffs[diffs.index(edge) - 2], diffs[diffs.index(edge) + 1]
    lost = set(diffs[diffs.index(before) + 1 : diffs.index(after)])
    kept = [line for row, line in enumerate(lines) if row not in lost]
    cut = kept.index(lines[after])
    for name, part in (("later", kept[cut:]), ("earlier", kept[:cut])):
        run = build("binance", [write(tmp_path / f"{name}.gz", part)], tmp_path / "w")
    assert run.summary["symbol_hours"] == 2
    (gap,) = rows(tmp_path / "w", tables.GAPS)
    last, shows = message_of(lines[before])["u"], message_of(lines[after])
    assert (gap["kind"], gap["hour"]) == ("sequence_gap", start + 4_000_000_000)
    assert (gap["expected"], gap["found"], gap["resolved_by"]) == (last + 1, shows["U"], "snapshot")
    checkpoints = {row["hour"]: row for row in rows(tmp_path / "w", tables.CHECKPOINTS)}
    assert checkpoints[gap["hour"]]["sequence"] == last
    statuses = {sequence: row["status"] for sequence, row in books_by_id(tmp_path / "w").items()}
    ended = gap["resolved_sequence"]
    assert {status for at, status in statuses.items() if at < shows["U"]} == {"unseeded", "verified"}
    assert {status for at, status in statuses.items() if shows["u"] <= at < ended} == {"suspect"}
    assert {status for at, status in statuses.items() if at > ended} == {"verified"}


def test_feed_without_a_snapshot_warms_or_waits_for_a_vendors_book(tmp_path):
    files = lake(tmp_path / "lake", seeded=False)
    without_books = [path for path in files if "book/" not in str(path)]
    for name, given, seed, expected in (
        ("alone", without_books, "auto", {"warming"}),  # it lasts 6 s, and warming takes 10
        ("books", files, "auto", {"warming", "unverifiable"}),
        ("golden", files, "golden", {"unseeded", "unverifiable"}),
    ):
        run = build("crypto_lake", given, tmp_path / name, "--seed", seed)
        assert run.summary["book_rows"].keys() == expected, name
        assert gap_kinds(tmp_path / name) == set()
    waiting = build("crypto_lake", without_books, tmp_path / "waiting", "--seed", "golden")
    assert waiting.summary["book_rows"] == {"unseeded": 1}
    assert rows(tmp_path / "waiting", tables.BOOKS, "bid_prices", "ask_prices") == [
        {"bid_prices": [], "ask_prices": []}
    ]
    assert gap_kinds(tmp_path / "waiting") == {"missing_snapshot"}


def test_snapshot_older_than_the_first_diff_is_not_bridged(tmp_path):
    lines = list(capture_lines(Market(3), 60, "BTCUSDT", snapshot_every=30))
    lost = set(depth_rows(lines)[:8])  # the first snapshot falls inside the sixth
    snapshots = [message_of(line) for line in lines if b"lastUpdateId" in line and b"stream" not in line]
    kept = [line for row, line in enumerate(lines) if row not in lost]
    run = build("binance", [write(tmp_path / "raw.gz", kept)], tmp_path / "w")
    statuses = {sequence: row["status"] for sequence, row in books_by_id(tmp_path / "w").items()}
    first, second = (snapshot["lastUpdateId"] for snapshot in snapshots[:2])
    assert {status for at, status in statuses.items() if first < at < second} == {"suspect"}
    assert {status for at, status in statuses.items() if at > second} == {"verified"}
    (gap,) = rows(tmp_path / "w", tables.GAPS)
    assert gap["kind"] == "unbridgeable_snapshot"
    assert gap["expected"] == first + 1
    assert gap["resolved_sequence"] == second
    assert run.summary["gaps"] == 1


def test_wrong_timestamps_are_recorded_and_move_no_rows(sound, tmp_path):
    lines, warehouse = list(sound[0]), sound[1]
    wild = {}
    shifts = {0: DAY_MS, 20: -DAY_MS, 30: HOUR_MS, 40: -HOUR_MS, -1: DAY_MS}
    for place, shift in shifts.items():
        row = depth_rows(lines)[place]
        message = message_of(lines[row])
        wild[message["u"]] = (message["E"] + shift) * 1_000_000
        lines[row] = edited(lines[row], E=message["E"] + shift)
    run = build("binance", [write(tmp_path / "raw.gz", lines)], tmp_path / "w")
    assert run.exit_status == 0, run.said
    found = rows(tmp_path / "w", tables.GAPS)
    assert {gap["kind"] for gap in found} == {"clock_jump"}
    assert {gap["sequence"]: gap["found"] for gap in found} == wild
    names = ("hour", "sequence", "bid_prices", "bid_sizes", "ask_prices", "ask_sizes", "status")
    assert books_by_id(tmp_path / "w", *names) == books_by_id(warehouse, *names)


def test_a_clock_that_is_set_back_moves_no_rows(sound, tmp_path):
    lines, warehouse = sound
    middle = depth_rows(lines)[30]
    behind = []
    for row, line in enumerate(lines):
        message = message_of(line)
        times = {name: message[name] - 2 * HOUR_MS for name in ("E", "T") if name in message}
        behind.append(edited(line, **times) if row > middle and "e" in message else line)
    run = build("binance", [write(tmp_path / "raw.gz", behind)], tmp_path / "w")
    assert run.exit_status == 0, run.said
    assert gap_kinds(tmp_path / "w") == {"clock_jump"}
    assert books_by_id(tmp_path / "w") == books_by_id(warehouse)


def test_a_wrong_checksum_makes_the_book_suspect(tmp_path):
    dump = list(kraken.dump_lines(Market(5), 60, "XBT/USD", depth=100))
    changes = [row for row, line in enumerate(dump) if b'"c":"' in line]
    lost = dump[: changes[20]] + dump[changes[20] + 1 :]
    run = build("kraken", [kraken.write_dump(lost, tmp_path)], tmp_path / "w")
    assert gap_kinds(tmp_path / "w") == {"checksum_failure"}
    assert run.summary["book_rows"]["suspect"] > 0


def test_a_file_without_valid_rows_does_not_empty_a_chunk(sound, tmp_path):
    lines, _ = sound
    build("binance", [write(tmp_path / "raw.gz", lines)], tmp_path / "w")
    before, held = books(tmp_path / "w"), len(rows(tmp_path / "w", tables.EVENTS, "sequence"))
    at = depth_rows(lines)[20]
    files = [
        write(tmp_path / "empty.gz", []),
        write(tmp_path / "garbage.gz", [b"no capture\n"]),
        write(tmp_path / "unreadable.gz", [edited(lines[at], b=[["1", "-1"]])]),
        write(tmp_path / "stale.gz", lines[:30]),
    ]
    run = build("binance", files, tmp_path / "w")
    assert run.exit_status == 3
    assert {refused["path"] for refused in run.summary["refused"]} == set(map(str, files[1:3]))
    assert books(tmp_path / "w") == before
    assert len(rows(tmp_path / "w", tables.EVENTS, "sequence")) == held
    # Replaced by nothing: what it told is gone, and what another file told stays.
    write(tmp_path / "stale.gz", [])
    run = build("binance", ["--replace", tmp_path / "stale.gz"], tmp_path / "w")
    assert run.exit_status == 0, run.said
    assert books(tmp_path / "w") == before


def test_repeating_a_command_writes_only_its_run(deltabook, sound, tmp_path):
    lines, _ = sound
    raw, copy = (write(tmp_path / name, lines) for name in ("raw.gz", "copy.gz"))
    run = deltabook("run", "binance", raw, copy, *into(tmp_path / "w"))
    assert (run.summary["files_new"], run.summary["files_known"]) == (1, 1)
    before, told = versions(tmp_path / "w"), books(tmp_path / "w")
    raw.rename(tmp_path / "renamed.gz")
    again = deltabook("run", "binance", tmp_path / "renamed.gz", copy, *into(tmp_path / "w"))
    after = versions(tmp_path / "w")
    assert (again.summary["files_new"], again.summary["files_known"]) == (0, 2)
    assert "2 already known" in again.said
    assert after.pop("runs") == before.pop("runs") + 3
    assert after == before
    assert books(tmp_path / "w") == told
    assert again.summary["verdicts"] == run.summary["verdicts"]
    assert len(rows(tmp_path / "w", tables.FILES)) == 1
