"""Follow live feeds without Spark: read growing files, let messages wait, and continue books."""

import gzip
import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from captures import depth_rows, is_depth, message_of
from followed import SECOND, Followed, batch_books, records_of
from test_faults_input import bybit_lines, kraken_lines, okx_lines

from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.streaming.follow_settings import FollowSettings, check_settings
from deltabook.schemas.errors import InputError, SettingsError
from deltabook.schemas.names import HOUR
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.streaming.growing_files import GrowingFolder, Position
from deltabook.udfs.streaming.stream_source import LiveSource, read_lines

START = 1_723_161_600 * SECOND
"""An hour's start; captures begin a little after it."""


def binance_lines(messages: int = 150, **how) -> list[bytes]:
    return list(capture_lines(Market(9, start_time=START + 60 * SECOND), messages, "BTCUSDT", **how))


def grow(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(data)


def cut(data: bytes, pieces: int, seed: int) -> list[bytes]:
    """Cut anywhere, mostly within lines."""
    at = [0, *sorted(random.Random(seed).sample(range(1, len(data)), pieces - 1)), len(data)]
    return [data[start:end] for start, end in pairwise(at)]


LEVEL_COUNTS = ["bid_levels", "ask_levels", "bid_known_levels", "ask_known_levels"]
CASES = {
    "binance": (lambda: binance_lines(snapshot_every=50), "BINANCE", "BTC-USDT"),
    "okx": (lambda: okx_lines(60), "OKX", "BTC-USDT"),
    "bybit": (lambda: bybit_lines(60), "BYBIT", "XRP-USDT-PERP"),
    "kraken": (kraken_lines, "KRAKEN", "BTC-USD"),
}


@pytest.mark.parametrize("source", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_books_of_a_growing_file_are_those_of_the_whole(source, seed, tmp_path):
    lines, exchange, symbol = CASES[source]
    path = tmp_path / "raw" / "a.jsonl"
    followed = Followed(tmp_path / "live", source, path.parent)
    for number, piece in enumerate(cut(b"".join(lines()), 12, seed)):
        grow(path, piece)
        followed.step()
        if number % 4 == 3:
            followed.restart()
    followed.step(silent=True)
    found, expected = followed.books(symbol), batch_books(source, [path], exchange, symbol)
    assert found.num_rows == expected.num_rows > 10
    for name in expected.schema.names:
        assert found[name].to_pylist() == expected[name].to_pylist(), name
    assert followed.counts["late"] == followed.counts["missed"] == 0
    assert followed.symbols[exchange, symbol]["waiting"] == 0


def _with_levels(line: bytes, count: int) -> bytes:
    """A line; if it is a snapshot, with its best levels alone."""
    received, text = line.split(b" ", 1)
    whole = json.loads(text)
    if "lastUpdateId" not in whole:
        return line
    whole |= {side: whole[side][:count] for side in ("bids", "asks")}
    return received + b" " + json.dumps(whole, separators=(",", ":")).encode() + b"\n"


@pytest.mark.parametrize("seed", range(3))
def test_known_levels_of_a_growing_file_are_those_of_the_whole(seed, tmp_path):
    path = tmp_path / "raw" / "a.jsonl"
    followed = Followed(tmp_path / "live", "binance", path.parent)
    lines = [_with_levels(line, 3) for line in binance_lines()]
    for piece in cut(b"".join(lines), 12, seed):
        grow(path, piece)
        followed.step()
        followed.restart()
    followed.step(silent=True)
    found = followed.books("BTC-USDT")
    assert found.equals(batch_books("binance", [path], "BINANCE", "BTC-USDT"))
    assert set(found["status"].to_pylist()) == {"unseeded", "unverifiable", "verified"}
    assert len(pc.unique(found["bid_known_levels"])) > 3


@pytest.mark.parametrize("most_bytes", [1, 300_000])
def test_files_of_several_streams_are_read_side_by_side(most_bytes, tmp_path, monkeypatch):
    monkeypatch.setattr("deltabook.udfs.streaming.growing_files._MIN_SHARE", 20_000)
    lines = binance_lines()
    is_of_book = [is_depth(line) or b"lastUpdateId" in line[:60] for line in lines]
    for name, chosen in (("book", True), ("trades", False)):
        grow(
            tmp_path / "raw" / name,
            b"".join(line for line, is_one in zip(lines, is_of_book, strict=True) if is_one is chosen),
        )
    followed = Followed(tmp_path / "live", "binance", tmp_path / "raw", most_bytes=most_bytes, patience=1.0)
    steps = 0
    while followed.step():
        steps += 1
    followed.step(silent=True)
    files = [tmp_path / "raw" / name for name in ("book", "trades")]
    assert steps > (8 if most_bytes == 1 else 1)
    assert followed.books("BTC-USDT").equals(batch_books("binance", files, "BINANCE", "BTC-USDT"))
    assert followed.counts["late"] == 0


@pytest.mark.parametrize("source", CASES)
def test_lines_parsed_apart_are_those_of_the_whole_file(source, tmp_path):
    lines, *_ = CASES[source]
    lines = lines()
    lines.insert(len(lines) // 2, b"no message\n")
    path = tmp_path / "a.jsonl"
    grow(path, b"".join(lines))
    expected = records_of(source, [path])
    # A snapshot that names no symbol has a part of its own: the lines before tell whose it is.
    alone = [
        row + 1 for row, line in enumerate(lines) if b'{"lastUpdateId"' in line[:60] for row in (row - 1, row)
    ]
    cuts = sorted({*random.Random(4).sample(range(8, len(lines)), 5), *alone})
    found, start = [], Position()
    for row in (*cuts, len(lines)):
        end = Position(sum(map(len, lines[:row])), row)
        found += [
            record
            for batch in read_lines(SOURCES[source]({}), str(path), start, end)
            for record in batch.to_pylist()
        ]
        start = end

    def key(row):
        return row["source_row"], row["record"], row["sequence"]

    assert sorted(found, key=key) == sorted(expected.to_pylist(), key=key)
    assert any(row["record"] == "quarantine" for row in found)


def test_a_half_line_waits_for_its_end(tmp_path):
    path = tmp_path / "raw" / "a.jsonl"
    folder = GrowingFolder(path.parent, {}, 1 << 20)
    assert folder.advance() == {}
    grow(path, b"1723161660000000000 {}\n17231616")
    assert folder.advance()[str(path)][:2] == (23, 1)
    grow(path, b"60000000001 {}")
    assert folder.advance()[str(path)][:2] == (23, 1)
    grow(path, b"\n")
    assert folder.advance()[str(path)][:2] == (46, 2)


def test_unfinished_and_hidden_files_wait_and_packed_ones_are_taken_whole(tmp_path):
    data = gzip.compress(b"1723161660000000000 {}\n1723161660000000001 {}", mtime=0)
    grow(tmp_path / "a.gz", data[:-9])
    for name in ("b.part", ".hidden", "_own"):
        grow(tmp_path / name, b"{}\n")
    folder = GrowingFolder(tmp_path, {}, 1 << 20)
    assert folder.advance() == {}
    grow(tmp_path / "a.gz", data[-9:])
    assert folder.advance()[str(tmp_path / "a.gz")][1] == 2
    before = dict(folder.positions)
    assert folder.advance() == before


@pytest.mark.parametrize("damage", ["cut", "replaced"])
def test_a_truncated_or_replaced_file_is_an_error_with_the_remedy(damage, tmp_path):
    path = tmp_path / "a.jsonl"
    grow(path, b"1723161660000000000 {}\n")
    folder = GrowingFolder(tmp_path, {}, 1 << 20)
    folder.advance()
    path.write_bytes(b"1723161660000000000" if damage == "cut" else b"1723161669999999999 {}\nmore\n")
    with pytest.raises(InputError, match=r"replaced.*under new names"):
        folder.advance()


def test_a_vanished_file_is_forgotten_and_a_new_one_read(tmp_path):
    grow(tmp_path / "a", b"1 {}\n")
    folder = GrowingFolder(tmp_path, {}, 1 << 20)
    folder.advance()
    (tmp_path / "a").rename(tmp_path / ".old")
    grow(tmp_path / "b", b"1 {}\n1 {}\n")
    assert {Path(name).name: position.rows for name, position in folder.advance().items()} == {"b": 2}


def test_little_files_are_read_by_one_task_and_large_ones_apart(tmp_path):
    for number in range(6):
        grow(tmp_path / f"{number}", b"1 {}\n" * (400_000 if number == 2 else 3))
    options = {"source": "binance", "folder": str(tmp_path), "patience": "-1", "most_bytes": str(64 << 20)}
    reader = LiveSource(options | {"offset": '{"files": {}, "silences": 0}'}).streamReader(None)
    parts = reader.partitions({"files": {}, "silences": 0}, reader.latestOffset())
    assert [[Path(path).name for path, *_ in part.value] for part in parts] == [
        ["0", "1", "2"],
        ["3", "4", "5"],
    ]


def test_silence_counts_once_until_the_next_message(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("deltabook.udfs.streaming.stream_source.time.monotonic", lambda: now[0])
    options = {"source": "binance", "folder": str(tmp_path), "patience": "2", "most_bytes": "1000"}
    reader = LiveSource(options | {"offset": '{"files": {}, "silences": 4}'}).streamReader(None)

    def silences(time: float) -> int:
        now[0] = time
        return reader.latestOffset()["silences"]

    assert [silences(time) for time in (1.9, 2.0, 9.0)] == [4, 5, 5]
    grow(tmp_path / "a", b"1 {}\n")
    assert [silences(time) for time in (10.0, 11.9, 12.0, 20.0)] == [5, 5, 6, 6]


def trade_and_depth(lines: list[bytes]) -> list[bytes]:
    return [
        line for line in lines if is_depth(line) or b"@trade" in line[:80] or b"lastUpdateId" in line[:60]
    ]


def test_a_quiet_stream_holds_the_other_no_longer_than_patience(tmp_path):
    lines = trade_and_depth(binance_lines())
    first_trade = next(row for row, line in enumerate(lines) if b"@trade" in line[:80])
    without = [line for line in lines if b"@trade" not in line[:80]]
    path = tmp_path / "raw" / "a.jsonl"
    followed = Followed(tmp_path / "live", "binance", path.parent, patience=2.0)
    grow(path, b"".join(without))
    followed.step()
    books = followed.books("BTC-USDT")
    last = int(without[-1].split(b" ")[0])
    assert 0 < int(pc.max(books["received"]).as_py()) <= last - 2 * SECOND
    assert followed.symbols["BINANCE", "BTC-USDT"]["waiting"] > 10
    # A trade that comes after that is taken behind what has gone, and counted in the next row.
    grow(path, lines[first_trade])
    followed.step()
    followed.step(silent=True)
    assert followed.counts["late"] == 1
    assert sum(followed.books("BTC-USDT")["trade_count"].to_pylist()) == 1
    times = followed.books("BTC-USDT")["order_time"].to_numpy()
    assert (np.diff(times) >= 0).all()


def test_a_snapshot_that_comes_behind_its_diffs_is_waited_for(tmp_path):
    lines = trade_and_depth(binance_lines(snapshot_message=5))
    at = next(row for row, line in enumerate(lines) if b"lastUpdateId" in line[:60])
    path = tmp_path / "raw" / "a.jsonl"
    followed = Followed(tmp_path / "live", "binance", path.parent)
    grow(path, b"".join(lines[:at]))
    followed.step()
    assert followed.books("BTC-USDT").num_rows == 0
    grow(path, b"".join(lines[at:]))
    followed.step()
    followed.step(silent=True)
    assert followed.books("BTC-USDT").equals(batch_books("binance", [path], "BINANCE", "BTC-USDT"))


@pytest.mark.parametrize("kept", [True, False])
def test_a_gap_waits_for_a_snapshot_and_is_suspect_after_patience(kept, tmp_path):
    lines = trade_and_depth(binance_lines(200, snapshot_every=60))
    del lines[depth_rows(lines)[58]]
    snapshots = [row for row, line in enumerate(lines) if b"lastUpdateId" in line[:60]]
    if not kept:
        lines = [line for row, line in enumerate(lines) if row not in snapshots[1:]]
    path = tmp_path / "raw" / "a.jsonl"
    followed = Followed(tmp_path / "live", "binance", path.parent, patience=2.0)
    for start in range(0, len(lines), 40):
        grow(path, b"".join(lines[start : start + 40]))
        followed.step()
    followed.step(silent=True)
    books, expected = followed.books("BTC-USDT"), batch_books("binance", [path], "BINANCE", "BTC-USDT")
    # A snapshot that arrives behind the diffs that it belongs before adds no levels to a live book.
    for name in LEVEL_COUNTS:
        assert pc.all(pc.less_equal(books[name], expected[name])).as_py()
    assert books.drop_columns(LEVEL_COUNTS).equals(expected.drop_columns(LEVEL_COUNTS))
    statuses = set(books["status"].to_pylist())
    assert "suspect" in statuses
    assert (books["status"].to_pylist()[-1] == "verified") is kept


def test_a_missed_message_is_counted_and_repeats_make_no_row(tmp_path):
    lines = trade_and_depth(binance_lines())
    for name in ("a", "b"):
        grow(tmp_path / "raw" / name, b"".join(lines[:100]))
    followed = Followed(tmp_path / "live", "binance", tmp_path / "raw", patience=1.0)
    followed.step()
    grow(tmp_path / "raw" / "a", b"".join(lines[100:]))
    followed.step(silent=True)
    before = followed.books("BTC-USDT")
    grow(tmp_path / "raw" / "b", b"".join(lines[100:]))  # the other connection, far behind
    followed.step()
    followed.step(silent=True)
    assert followed.books("BTC-USDT").equals(before)
    assert followed.counts["missed"] >= len(lines) - 100 - 5


def test_ids_that_begin_anew_are_another_epoch(tmp_path):
    later = Market(9, start_time=START + 600 * SECOND)
    path = tmp_path / "raw" / "a.jsonl"
    lines = trade_and_depth(binance_lines(60))
    raised = [_with_ids(line, 1_000_000) for line in lines]
    again = trade_and_depth(list(capture_lines(later, 60, "BTCUSDT")))
    followed = Followed(tmp_path / "live", "binance", path.parent)
    for piece in (raised, again[:9], again[9:]):
        grow(path, b"".join(piece))
        followed.step()
    followed.step(silent=True)
    books = followed.books("BTC-USDT")
    assert set(books["epoch"].to_pylist()) == {0, 1}
    assert books["status"].to_pylist()[-1] == "verified"


def _with_ids(line: bytes, more: int) -> bytes:
    received, text = line.split(b" ", 1)
    whole = json.loads(text)
    message = whole.get("data", whole)
    for name in ("U", "u", "t", "lastUpdateId"):
        if name in message:
            message[name] += more
    return received + b" " + json.dumps(whole, separators=(",", ":")).encode() + b"\n"


def test_a_number_that_fits_no_scale_any_more_is_in_quarantine_and_damages_the_book(tmp_path):
    lines = trade_and_depth(binance_lines())
    row = depth_rows(lines)[80]
    message = message_of(lines[row])
    price, size = message["b"][0] if message["b"] else message["a"][0]
    lines[row] = lines[row].replace(f'["{price}","{size}"]'.encode(), f'["{price}123","{size}"]'.encode(), 1)
    path = tmp_path / "raw" / "a.jsonl"
    followed = Followed(tmp_path / "live", "binance", path.parent)
    for start in range(0, len(lines), 50):
        grow(path, b"".join(lines[start : start + 50]))
        followed.step()
    followed.step(silent=True)
    assert [number for number, reason in followed.quarantine()] == [row + 1]
    assert "suspect" in followed.books("BTC-USDT")["status"].to_pylist()


def test_a_fixed_instrument_stays_the_same(tmp_path):
    path = tmp_path / "raw" / "a.jsonl"
    grow(path, b"".join(binance_lines(60)))
    scales = {"price_scale": 2, "size_scale": 5, "is_decimal": False}
    instruments = {("BINANCE", "BTC-USDT"): scales}
    followed = Followed(tmp_path / "live", "binance", path.parent, instruments=instruments)
    followed.step()
    followed.step(silent=True)
    usual = batch_books("binance", [path], "BINANCE", "BTC-USDT")
    found = followed.books("BTC-USDT")
    prices = [[price // 10**6 for price in row] for row in usual["bid_prices"].to_pylist()]
    assert found["bid_prices"].to_pylist() == prices
    assert HOUR and found.num_rows == usual.num_rows


def test_live_books_need_a_local_folder(tmp_path):
    settings = load_settings(None, {"warehouse": "s3a://bucket/books"})
    with pytest.raises(SettingsError, match="in a local folder"):
        check_settings(settings, FollowSettings(source="binance", folder=tmp_path))
