"""Every registered source has a page, reads blocks of any size alike, and refuses or quarantines garbage."""

from __future__ import annotations

import gzip
import inspect
import pickle
import sys
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from test_dialects import market
from venue_lines import VENUE_LINES

from deltabook.jobs.lookup.sources import describe_source, describe_sources
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.feeds import FEEDS, feed_of
from deltabook.schemas.frames import RECORDS
from deltabook.schemas.names import NAME_PATTERN
from deltabook.udfs.simulator import binance, crypto_lake, kraken, tardis
from deltabook.udfs.sources.common import file_source
from deltabook.udfs.sources.registry import SOURCES

KINDS = {"trade", "agg_trade", "book_update", "golden", "quarantine", "file"}
OKX = [
    b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":[["2","1","0","1"]],'
    b'"bids":[["1","1","0","1"]],"ts":"1723161255208","checksum":0,"seqId":5,"prevSeqId":-1}]}\n',
    b'{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"update","data":[{"asks":[["2","0","0","1"]],'
    b'"bids":[],"ts":"1723161255308","checksum":0,"seqId":7,"prevSeqId":5}]}\n',
]
BYBIT = [
    b'{"topic":"orderbook.500.BTCUSDT","type":"snapshot","ts":1723161255208,"data":{"s":"BTCUSDT",'
    b'"b":[["1","1"]],"a":[["2","1"]],"u":5,"seq":1}}\n',
    b'{"topic":"orderbook.500.BTCUSDT","type":"delta","ts":1723161255308,"data":{"s":"BTCUSDT","b":[],'
    b'"a":[["2","0"]],"u":6,"seq":2}}\n',
]


def write_lines(folder: Path, lines: list[bytes]) -> Path:
    path = folder / "sample"
    path.write_bytes(b"".join(lines))
    return path


def lake_sample(folder: Path) -> Path:
    tables = crypto_lake.tables(market(), 60, "BINANCE", "BTC-USDT")
    return next(path for path in crypto_lake.write_tables(tables, folder) if "book_delta_v2" in str(path))


def tardis_sample(folder: Path) -> Path:
    lines = tardis.csv_lines(market(), 60, "binance", "BTCUSDT")["incremental_book_L2"]
    return write_lines(folder, [line.encode() for line in lines])


SAMPLES = {
    "binance": lambda folder: write_lines(folder, list(binance.capture_lines(market(), 60, "BTCUSDT"))),
    "crypto_lake": lake_sample,
    "tardis": tardis_sample,
    "kraken": lambda folder: write_lines(folder, list(kraken.dump_lines(market(), 60, "XBT/USD"))),
    "okx": lambda folder: write_lines(folder, OKX),
    "bybit": lambda folder: write_lines(folder, BYBIT),
} | {name: partial(write_lines, lines=lines) for name, lines in VENUE_LINES.items()}


def read(name: str, path: Path) -> pa.Table:
    reader = pickle.loads(pickle.dumps(SOURCES[name]({"path": str(path)}).reader(None)))
    batches = [batch for part in reader.partitions() for batch in reader.read(part)]
    assert all(batch.schema == RECORDS.arrow for batch in batches)
    return pa.Table.from_batches(batches)


def messages(records: pa.Table) -> list[dict]:
    return records.filter(pc.not_equal(records["record"], "file")).to_pylist()


@pytest.fixture(params=SOURCES)
def sample(request, tmp_path):
    assert request.param in SAMPLES, f"give source {request.param} a sample file in SAMPLES"
    return request.param, SAMPLES[request.param](tmp_path)


def test_a_source_has_a_page_a_name_and_feeds():
    for name, source in SOURCES.items():
        assert source.name() == name
        text = inspect.getdoc(sys.modules[source.__module__])
        assert text and f"`{name}`" in text.splitlines()[0]
        assert "Rules:" in text
        assert any(feed.source == name for feed in FEEDS.values())
        assert "at best" in describe_source(name)
    assert describe_sources("binance") == describe_source("binance")
    table = describe_sources(None).splitlines()
    assert {line.split()[0] for line in table[1:-2]} == SOURCES.keys()
    with pytest.raises(SettingsError, match="expected one of crypto_lake"):
        describe_sources("nowhere")


def test_a_sample_is_read_to_its_end_into_valid_records(sample):
    name, path = sample
    records = read(name, path)
    assert set(records["record"].to_pylist()) <= KINDS - {"quarantine"}
    assert "book_update" in records["record"].to_pylist()
    ends = records.filter(pc.equal(records["record"], "file"))
    assert set(ends["kind"].to_pylist()) == {"read"}
    for row in messages(records):
        assert NAME_PATTERN.fullmatch(row["exchange"]) and NAME_PATTERN.fullmatch(row["symbol"])
        assert "-" in row["symbol"]
        assert feed_of(name, row["exchange"]).source == name
        assert row["source_file"] == str(path)
        assert row["source_row"] >= 1
        assert row["sequence"] >= 0
        levels = len(row["bid_prices"]) + len(row["ask_prices"])
        assert row["level_changes"] == levels == len(row["bid_sizes"]) + len(row["ask_sizes"])


@pytest.mark.parametrize("size", [512, 999, 1 << 16])
def test_blocks_of_any_size_give_the_same_records(sample, monkeypatch, size):
    name, path = sample
    whole = messages(read(name, path))
    monkeypatch.setattr(file_source, "BLOCK_BYTES", size)
    monkeypatch.setattr(file_source.line_blocks, "__defaults__", ("", size))
    assert messages(read(name, path)) == whole


def test_garbage_is_quarantined_or_refused_and_an_empty_file_is_neither(sample, tmp_path):
    name, _ = sample
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"\x00\xff no capture at all\n{}\n")
    records = read(name, garbage)
    refused = "failed" in records["kind"].to_pylist()
    assert refused or "quarantine" in records["record"].to_pylist()
    garbage.write_bytes(b"")
    if name != "crypto_lake":  # a Parquet file without a footer is cut off
        assert read(name, garbage)["kind"].to_pylist() == ["read"]


def test_a_file_that_is_cut_off_is_refused(sample, tmp_path):
    name, path = sample
    cut = tmp_path / "cut"
    data = path.read_bytes()
    cut.write_bytes(data[: len(data) // 2] if name == "crypto_lake" else gzip.compress(data)[:-9])
    records = read(name, cut)
    outcome = records.filter(pc.equal(records["record"], "file")).to_pylist()
    assert [row["kind"] for row in outcome] == ["failed"]
    assert outcome[0]["reason"]
