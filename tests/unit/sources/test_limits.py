"""Every reader enforces the limits of one file and of one message, and its error names the limit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from captures import write
from csv_tables import T0, T_DEPTH, UPDATES, table, update
from events import compact, depth, snapshot
from faulted import into, reasons, rows
from lake_tables import T0 as LAKE_T0
from lake_tables import delta_rows, written

from deltabook.jobs.runtime.settings import load_settings
from deltabook.schemas import tables
from deltabook.schemas.errors import SettingsError
from deltabook.udfs.ordering import staged_records
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.crypto_lake import source as crypto_lake
from deltabook.udfs.sources.csv import tables as tables_csv
from deltabook.udfs.sources.registry import SOURCES

Levels = list[list[str]]


def book_of(count: int) -> Levels:
    return [[str(100 + number), "1"] for number in range(count)]


def kraken_book(pair: str, levels: Levels) -> bytes:
    printed = [[price, size, "1723161255.208000"] for price, size in levels]
    return f"1723161255.3: {compact([1, {'as': printed, 'bs': []}, 'book-100', pair])}".encode()


def okx_book(symbol: str, levels: Levels) -> bytes:
    entry = {"asks": levels, "bids": [], "ts": "1723161255208", "seqId": 5, "prevSeqId": -1}
    argument = {"channel": "books", "instId": symbol}
    return compact({"arg": argument, "action": "snapshot", "data": [entry]}).encode()


def bybit_book(symbol: str, levels: Levels) -> bytes:
    data = {"s": symbol, "b": levels, "a": [], "u": 5, "seq": 1}
    return compact(
        {"topic": f"orderbook.500.{symbol}", "type": "snapshot", "ts": 1723161255208, "data": data}
    ).encode()


def tardis_table(folder: Path, books: list[tuple[str, Levels]]) -> Path:
    lines = [
        update(1 + number, "bid", price, size, True, symbol=symbol)
        for number, (symbol, levels) in enumerate(books)
        for price, size in levels
    ]
    return write(folder / "raw.csv", [table(UPDATES, *lines)], compress=False)


def depth_table(folder: Path, books: list[tuple[str, Levels]]) -> Path:
    lines = [
        f"{symbol},{T0 // 1000 + number},5,{6 + number},b,snap,{price},{size},-1"
        for number, (symbol, levels) in enumerate(books)
        for price, size in levels
    ]
    return write(folder / "raw.csv", [table(T_DEPTH, *lines)], compress=False)


def lake_table(folder: Path, books: list[tuple[str, Levels]]) -> Path:
    found = [
        (LAKE_T0 + number, number + 1, symbol, float(price))
        for number, (symbol, levels) in enumerate(books)
        for price, _ in levels
    ]
    times, ids, symbols, prices = (list(column) for column in zip(*found, strict=True))
    columns = {"received_time": times, "origin_time": times, "sequence_number": ids, "symbol": symbols}
    columns |= {"price": prices, "size": [1.0] * len(ids), "side_is_bid": [True] * len(ids)}
    return Path(written(folder, delta_rows() | columns | {"exchange": ["BINANCE"] * len(ids)}))


def in_lines(line: Callable[[str, Levels], bytes]) -> Callable[[Path, list[tuple[str, Levels]]], Path]:
    def made(folder: Path, books: list[tuple[str, Levels]]) -> Path:
        return write(folder / "raw.ws.1.0", [line(*book) + b"\n" for book in books], compress=False)

    return made


def binance_line(symbol: str, levels: Levels) -> bytes:
    return depth("spot", 3, 5, levels, s=symbol).encode()


def spaced_line(symbol: str, levels: Levels) -> bytes:
    return binance_line(symbol, levels).replace(b":", b": ")


def snapshot_line(symbol: str, levels: Levels) -> bytes:
    return snapshot("spot", 5, levels, symbol=symbol).encode()


def answer_line(symbol: str, levels: Levels) -> bytes:
    url = f"https://api.binance.com/api/v3/depth?symbol={symbol}"
    return f"{url} -> 1723161255.3: {snapshot('spot', 5, levels)}".encode()


READERS: dict[str, tuple[str, Callable[[Path, list[tuple[str, Levels]]], Path], str]] = {
    "binance, fast": ("binance", in_lines(binance_line), "S{}USDT"),
    "binance, strict": ("binance", in_lines(spaced_line), "S{}USDT"),
    "binance, snapshot": ("binance", in_lines(snapshot_line), "S{}USDT"),
    "binance, answer": ("binance", in_lines(answer_line), "S{}USDT"),
    "binance, T_DEPTH": ("binance", depth_table, "S{}USDT"),
    "okx": ("okx", in_lines(okx_book), "S{}-USDT"),
    "bybit": ("bybit", in_lines(bybit_book), "S{}USDT"),
    "kraken": ("kraken", in_lines(kraken_book), "S{}/USD"),
    "tardis": ("tardis", tardis_table, "S{}"),
    "crypto_lake": ("crypto_lake", lake_table, "S{}-USDT"),
}
"""Source, how a file of books is written, and how a symbol is spelled."""


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written_by(reader: str, folder: Path, sizes: list[int]) -> Path:
    """Write a file of books of some levels each, every one of another symbol."""
    _, write_books, spelled = READERS[reader]
    return write_books(folder, [(spelled.format(number), book_of(size)) for number, size in enumerate(sizes)])


def staged(
    source: str, path: Path, folder: Path, limits: Limits
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Stage a file as a worker does; return the staged files, and how each part ended."""
    folder.mkdir(exist_ok=True)
    stage = staged_records.stage_groups(SOURCES, str(folder), limits)
    reference = pd.DataFrame(
        {"part": [0], "source_file": [str(path)], "row_groups": [[]], "source": [source]}
    )
    told = [row for frame in stage((0,), iter([reference])) for row in frame.to_dict("records")]
    return [row for row in told if row["file"]], [row for row in told if not row["file"]]


def records_in(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [row for file in files for row in staged_records.read_staged(file["file"]).to_pylist()]
    return sorted(found, key=lambda row: (row["source_row"], row["record"]))


def test_file_of_more_symbols_than_the_setting_is_refused_and_one_of_as_many_is_not(reader, tmp_path):
    source = READERS[reader][0]
    path = written_by(reader, tmp_path, [1] * 5)
    files, ends = staged(source, path, tmp_path / "staged", Limits(most_symbols=5))
    assert ({row["symbol"] for row in files} and len(files), ends[0]["failed"]) == (5, False)
    files, (end,) = staged(source, path, tmp_path / "staged", Limits(most_symbols=4))
    assert (files, end["failed"]) == ([], True)
    assert end["reason"].startswith("the file has at least 5 symbols; the limit is 4 (setting most_symbols)")


def test_message_of_more_levels_than_the_setting_is_not_read_and_one_of_as_many_is(reader, tmp_path):
    source = READERS[reader][0]
    path = written_by(reader, tmp_path, [2, 9, 3])
    files, (end,) = staged(source, path, tmp_path / "staged", Limits(most_levels=9))
    assert ([row["level_changes"] for row in records_in(files)], end["failed"]) == ([2, 9, 3], False)
    files, (end,) = staged(source, path, tmp_path / "staged", Limits(most_levels=8))
    if source in ("tardis", "crypto_lake") or reader == "binance, T_DEPTH":
        assert (files, end["failed"]) == ([], True)
        reason = end["reason"]
    else:  # a line of its own: the others are read
        read = records_in(files)
        whole = [row for row in read if row["record"] != "quarantine" and not row["damaged"]]
        assert [row["level_changes"] for row in whole] == [2, 3]
        (reason,) = [row["reason"] for row in read if row["record"] == "quarantine"]
    assert "setting most_levels" in reason and reason.startswith("a message has ")


@pytest.mark.parametrize("most_open", [0, 1, 7])
def test_streams_that_have_no_open_file_are_staged_to_the_same_records(tmp_path, monkeypatch, most_open):
    lines = [
        depth("spot", number, number, [["1", str(number)]], s=f"S{number * 7 % 20}USDT").encode() + b"\n"
        for number in range(1, 200)
    ] + [b"not JSON\n"]
    path = write(tmp_path / "raw", lines)
    usual, _ = staged("binance", path, tmp_path / "usual", Limits())
    monkeypatch.setattr(staged_records, "_MOST_OPEN", most_open)
    monkeypatch.setattr("deltabook.udfs.sources.binance.source._MAX_LINES", 30)
    for room in (1, 64 << 20):
        monkeypatch.setattr(staged_records, "_WAITING_BYTES", room)
        files, (end,) = staged("binance", path, tmp_path / "few", Limits())
        assert not end["failed"]
        assert records_in(files) == records_in(usual)
        assert sum(row["records"] for row in files) == 200
        names = [Path(row["file"]).name for row in files]
        for symbol in {row["symbol"] for row in files}:
            of_symbol = [name for name, row in zip(names, files, strict=True) if row["symbol"] == symbol]
            assert of_symbol == sorted(of_symbol)  # a stream is met in its own order
        (bad,) = {(row["source_row"], row["reason"][:8]) for row in files if row["record"] == "quarantine"}
        assert bad == (200, "not JSON")


def test_lines_of_many_small_values_are_quarantined_before_they_are_decoded(tmp_path):
    lines = [
        b'{"topic":"other"}',
        b"[" * 30 + b"]" * 30,
        b"[" + b"1," * 190 + b"1]",
        b"[" + b"{}," * 90 + b"{}]",
    ]
    path = write(tmp_path / "raw", [line + b"\n" for line in lines])
    files, _ = staged("bybit", path, tmp_path / "staged", Limits(most_levels=20))
    found = {row["source_row"]: row["reason"] for row in records_in(files)}
    assert "at least 22 level changes" in found[2]
    assert all("values; the limit is 80" in found[row] for row in (3, 4))
    assert 1 not in found


def test_parquet_that_grows_out_of_proportion_is_refused_before_it_is_read(tmp_path, monkeypatch):
    count = 20_000
    columns = {name: [values[0]] * count for name, values in delta_rows().items()}
    path = written(tmp_path, columns, compression="zstd")
    monkeypatch.setattr(crypto_lake, "ALWAYS_ALLOWED_BYTES", 10_000)
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("it was read"))
    _, (end,) = staged("crypto_lake", Path(path), tmp_path / "staged", Limits(most_levels=10 * count))
    assert end["reason"].startswith("in memory, the file would be more than 200 times as large as on disk")


def test_table_of_too_many_columns_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables_csv, "MAX_COLUMNS", 8)
    path = write(tmp_path / "raw.csv", [b"exchange,symbol,timestamp,local_timestamp,a,b,c,d,e\n"])
    _, (end,) = staged("tardis", path, tmp_path / "staged", Limits())
    assert end["reason"] == "expected at most 8 columns, found 9"


@pytest.mark.parametrize("name", ["most_symbols", "most_levels"])
@pytest.mark.parametrize("value", [0, -1, "many", 10**12])
def test_limits_that_cannot_be_are_refused_by_name(name, value):
    with pytest.raises(SettingsError, match=name):
        load_settings(None, {name: value})


def test_defaults_of_the_settings_are_those_of_the_readers():
    assert load_settings(None, {}).limits == Limits()
    assert Limits.from_options(Limits(3, 4).to_options()) == Limits(3, 4)


@pytest.mark.spark
def test_settings_reach_every_part_of_a_file_and_the_other_files_go_in(deltabook, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yaml"
    settings.write_text("most_symbols: 4\nmost_levels: 8\n")
    raw = tmp_path / "raw"
    (raw / "many").mkdir(parents=True)
    written_by("binance, fast", raw / "many", [1] * 5)
    good = write(
        raw / "good.jsonl", [binance_line("BTCUSDT", book_of(8)) + b"\n", binance_line("BTCUSDT", book_of(9))]
    )
    run = deltabook("ingest", "binance", raw, "--config", settings, *into(tmp_path / "w"))
    assert run.exit_status == 3
    assert reasons(run).keys() == {"raw.ws.1.0"}
    assert "the limit is 4 (setting most_symbols)" in run.said
    (bad,) = rows(tmp_path / "w", tables.QUARANTINE)
    assert (bad["source_file"], bad["source_row"]) == (str(good), 2)
    assert "the limit is 8 (setting most_levels)" in bad["reason"]


@pytest.mark.spark
def test_symbols_of_a_file_are_counted_over_all_its_parts(deltabook, tmp_path, monkeypatch):
    settings = tmp_path / "settings.yaml"
    settings.write_text("most_symbols: 4\n")
    books = [(f"S{number}-USDT", book_of(2)) for number in range(6)]
    path = lake_table(tmp_path, books)
    pq.write_table(pq.read_table(path, partitioning=None), path, row_group_size=2)
    monkeypatch.setattr(crypto_lake, "PART_ROWS", 2)
    run = deltabook("ingest", "crypto_lake", path, "--config", settings, *into(tmp_path / "w"))
    assert run.exit_status == 3
    assert "the file has at least 6 symbols; the limit is 4" in run.said
