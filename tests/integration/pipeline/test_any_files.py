"""Folders of whatever files: the content names the source, nothing vanishes, and a wrong source is no end."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import pytest
from captures import simulated_lines, write
from test_every_source import BYBIT, OKX
from venue_lines import VENUE_LINES

from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.tables import EVENTS, FILE_LINES, FILES, INSTRUMENTS

pytestmark = pytest.mark.spark

UNKNOWN = b'{"topic":"/market/level2:BTC-USDT","type":"message","subject":"trade.l2update","data":{}}\n' * 9


def tables(warehouse: Path) -> TableReader:
    return TableReader(warehouse, published_versions(warehouse))


def fill(folder: Path) -> None:
    """Write captures of several venues, a zip, a README, a picture, and what nobody can read."""
    folder.mkdir()
    write(folder / "binance.gz", simulated_lines(60))
    (folder / "README.md").write_text("# Captures of August\n")
    (folder / "screen.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 50)
    (folder / "kucoin.jsonl").write_bytes(UNKNOWN)
    (folder / "cut.gz").write_bytes(gzip.compress(b"".join(OKX) * 99)[:-30])
    (folder / "empty.jsonl").write_bytes(b"")
    with zipfile.ZipFile(folder / "both.zip", "w") as archive:
        archive.writestr("okx.json", b"".join(OKX))
        archive.writestr("deep/bybit.json", b"".join(BYBIT))
    for name in ("deribit", "coinbase"):
        (folder / name).write_bytes(b"".join(VENUE_LINES[name]))


def test_a_mixed_folder_is_read_by_content_and_each_line_is_counted(deltabook, tmp_path):
    folder, warehouse = tmp_path / "captures", tmp_path / "w"
    fill(folder)
    found = deltabook("run", folder, "--warehouse", warehouse, "--json")
    assert found.exit_status == 3
    assert found.summary["taken_for"] == {"binance": 2, "bybit": 1, "coinbase": 1, "deribit": 1, "okx": 1}
    refused = {Path(file["path"]).name: file["reason"] for file in found.summary["refused"]}
    assert refused.keys() == {"kucoin.jsonl", "cut.gz"}
    assert "9 lines looked at" in refused["kucoin.jsonl"] and "EOFError" in refused["cut.gz"]
    passed_over = {Path(file["path"]).name for file in found.summary["passed_over"]}
    assert passed_over == {"README.md", "screen.png"}
    ledger = {row["path"]: row for row in tables(warehouse).rows(FILES)}
    assert ledger[f"{folder}/both.zip!/okx.json"]["source"] == "okx"
    assert ledger[f"{folder}/empty.jsonl"]["state"] == "ingested"
    counted: dict[str, int] = {}
    for row in tables(warehouse).rows(FILE_LINES):
        counted[row["source_file"]] = counted.get(row["source_file"], 0) + row["lines"]
    assert counted[f"{folder}/deribit"] == len(VENUE_LINES["deribit"])
    assert counted[f"{folder}/both.zip!/deep/bybit.json"] == len(BYBIT)
    assert found.summary["lines"] == {
        kind: sum(row["lines"] for row in tables(warehouse).rows(FILE_LINES) if row["kind"] == kind)
        for kind in found.summary["lines"]
    }
    again = deltabook("run", folder, "--warehouse", warehouse, "--json")
    assert again.summary["files_known"] == 6 and again.summary["files_read"] == 0
    event = next(row for row in tables(warehouse).rows(EVENTS) if row["exchange"] == "OKX")
    raw = deltabook("raw", event["symbol"], event["sequence"], "--warehouse", warehouse)
    assert raw.stdout.encode() in OKX


def test_a_wrong_source_refuses_a_file_by_name_and_the_right_one_reads_it(deltabook, tmp_path):
    path, warehouse = tmp_path / "capture", tmp_path / "w"
    path.write_bytes(b"".join(BYBIT))
    wrong = deltabook("ingest", "binance", path, "--warehouse", warehouse, "--json")
    assert wrong.exit_status == 3
    (refused,) = wrong.summary["refused"]
    assert "0 of 2 lines are messages that source binance reads" in refused["reason"]
    assert "looks like bybit" in refused["reason"]
    right = deltabook("ingest", "bybit", path, "--warehouse", warehouse, "--json")
    assert (right.exit_status, right.summary["files_read"]) == (0, 1)
    assert [row["feed"] for row in tables(warehouse).rows(INSTRUMENTS)] == ["bybit"]


def test_a_file_of_other_channels_is_refused_with_the_channels(deltabook, tmp_path):
    path, warehouse = tmp_path / "capture", tmp_path / "w"
    path.write_bytes(b'{"topic":"kline.1.BTCUSDT","data":[]}\n' * 4 + b'{"topic":"tickers.X","data":{}}\n')
    found = deltabook("ingest", "bybit", path, "--warehouse", warehouse, "--json")
    assert found.exit_status == 3
    assert "0 of 5 lines" in found.summary["refused"][0]["reason"]
    assert "4 other: kline.1" in found.summary["refused"][0]["reason"]


def test_inspect_shows_what_files_are_and_writes_nothing(deltabook, tmp_path):
    folder = tmp_path / "captures"
    fill(folder)
    found = deltabook("inspect", folder, "--json")
    assert found.exit_status == 3
    shown = {Path(file["path"]).name: file for file in found.summary["files"]}
    assert shown["binance.gz"]["container"] == "gzip" and shown["binance.gz"]["source"] == "binance"
    assert shown["okx.json"]["path"] == f"{folder}/both.zip!/okx.json"
    assert shown["deribit"]["instruments"][0]["symbol"] == "BTC-USD-PERP"
    assert shown["deribit"]["lines"] == {"taken": len(VENUE_LINES["deribit"])}
    assert shown["README.md"]["is_document"] and not shown["README.md"]["problem"]
    assert "known venue" in shown["kucoin.jsonl"]["problem"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["captures"]


def test_neither_a_source_nor_a_path_is_an_error_that_lists_the_sources(deltabook, tmp_path):
    found = deltabook("run", "binanse", tmp_path)
    assert found.exit_status == 2
    assert "neither a source nor a path" in found.said and "binance" in found.said
    assert json.dumps("no paths")[1:-1] in deltabook("run", "binance").said


def test_the_report_lists_refused_files_and_lines_by_kind(deltabook, tmp_path):
    folder, warehouse = tmp_path / "captures", tmp_path / "w"
    fill(folder)
    deltabook("ingest", folder, "--warehouse", warehouse)
    assert deltabook("report", "--warehouse", warehouse, "--out", tmp_path / "r.html").exit_status == 0
    page = (tmp_path / "r.html").read_text()
    section = page[page.index('<section id="files"') : page.index('<section id="coverage"')]
    assert "kucoin.jsonl" in section and "known venue" in section
    assert "2 as binance" in section and " taken" in section
