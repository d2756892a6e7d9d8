"""Exports: each format, read back, has the values of the tables. An unfinished export leaves no files."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captures import depth_rows, simulated_lines, write
from conftest import invoke
from faulted import build, into, lake, of_table, rows
from test_replay import in_order
from test_report import publish

from deltabook.jobs.exporting import output_folder
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas import tables
from deltabook.schemas.errors import InputError, SettingsError
from deltabook.schemas.names import HOUR
from deltabook.udfs.export import parquet as export_parquet
from deltabook.udfs.export.tardis import make_vendor_names, write_number
from deltabook.udfs.numbers.exported_numbers import firsts, grid, pair_levels
from deltabook.udfs.simulator import tardis
from deltabook.udfs.simulator.binance import capture_lines
from deltabook.udfs.simulator.market import Market
from deltabook.udfs.sources.tardis.source import instrument
from deltabook.udfs.storage.locations import parse_location

pytestmark = pytest.mark.spark

START = 1_723_161_255_000_000_000 // HOUR * HOUR
LEVELS = 20
SIDES = ("bid", "ask")


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory) -> Path:
    """BTC over an hour's edge, whose first hour has lost a diff and failed; ETH in DECIMAL(38,18)."""
    folder = tmp_path_factory.mktemp("export")
    start = START + HOUR - 9_000_000_000
    lines = list(capture_lines(Market(9, start_time=start), 150, "BTCUSDT", snapshot_every=60))
    del lines[depth_rows(lines)[35]]
    files = [write(folder / "btc.gz", lines), write(folder / "eth.gz", simulated_lines(60, symbol="ETHUSDT"))]
    config = folder / "config.yaml"
    config.write_text(
        "instruments: {BINANCE: {ETH-USDT: {is_decimal: true}, BTC-USDT: {price_scale: 2, size_scale: 5}}}"
    )
    build("binance", files, folder / "w", config=config)
    verdict = {"exchange": "BINANCE", "symbol": "BTC-USDT", "hour": START, "suite": "events"}
    verdict |= {
        "verdict": "failed",
        "reasons": "no gaps: 1",
        "hides": True,
        "counts": [],
        "fingerprint": "",
        "run_id": "",
    }
    publish(folder / "w", {tables.VERDICTS: [verdict]})
    return folder / "w"


@pytest.fixture(scope="module")
def exported(built, tmp_path_factory):
    """A function that exports once and remembers the folder."""
    known: dict[tuple[str, ...], Path] = {}

    def export(*how: str, warehouse: Path = built) -> Path:
        key = (*how, str(warehouse))
        if key not in known:
            folder = tmp_path_factory.mktemp("out") / "export"
            run = invoke("export", *how, "--out", folder, *into(warehouse))
            assert run.exit_status == 0, run.said
            known[key] = folder
        return known[key]

    return export


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def parquet_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of all files in order, with what the folders' names say."""
    found = []
    for file in manifest_of(folder)["files"]:
        of_folders = {name: file[name] for name in ("exchange", "symbol")}
        found += [row | of_folders for row in pq.ParquetFile(folder / file["path"]).read().to_pylist()]
    return found


def asked(spark, warehouse: Path, text: str) -> list[dict[str, Any]]:
    from deltabook.jobs.queries.sql import prepare_query
    from deltabook.jobs.runtime.settings import load_settings
    from deltabook.jobs.warehouse.warehouse import Warehouse

    opened = Warehouse(spark, load_settings(None, {"warehouse": warehouse}))
    return [row.asDict(recursive=True) for row in prepare_query(opened, text).collect()]


def alike(found: list[dict[str, Any]], names: set[str]) -> list[str]:
    """Rows as texts that any order and any scale of decimals leave the same."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if isinstance(value, Decimal):
            return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
        if isinstance(value, datetime):
            return value.timestamp() if value.tzinfo else value.replace(tzinfo=UTC).timestamp()
        return value

    return sorted(repr([(name, plain(row[name])) for name in sorted(names)]) for row in found)


@pytest.mark.parametrize(
    ("what", "view"), [("books", "book_all"), ("features", "features"), ("trades", "trades_all")]
)
def test_parquet_holds_the_rows_of_the_view(spark, built, exported, what, view):
    found = parquet_rows(exported(what, "--all"))
    expected = asked(spark, built, f"SELECT *, unix_micros(time) AS micros FROM {view}")
    for row in found:
        row["micros"] = round(row["time"].timestamp() * 10**6)
    names = {*found[0]} - {"time"}
    assert len(found) == len(expected) > 60
    assert names == {*expected[0]} - {"time", "date"} | (
        {"timestamp", "received"} if what == "features" else set()
    )
    if what == "features":
        names -= {"timestamp", "received"}
    assert alike(found, names) == alike(expected, names)


def test_parquet_rows_are_in_the_order_of_the_feed(built, exported):
    stored = TableReader(built, require_published(built))
    for file in manifest_of(exported("books", "--all"))["files"]:
        expected = [
            sequence
            for key, uris in stored.files_of_both(tables.BOOKS).items()
            if key[1] == file["symbol"] and _day(key[2]) == file["date"]
            for uri in uris
            for sequence in pq.ParquetFile(parse_location(uri)).read(["sequence"])["sequence"].to_pylist()
        ]
        path = exported("books", "--all") / file["path"]
        assert pq.ParquetFile(path).read()["sequence"].to_pylist() == expected


def _day(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour / 1e9, UTC):%Y-%m-%d}"


def scaled(value: Any, name: str) -> Any:
    """A price or size of a table as its decimals, by the name of its column."""
    if isinstance(value, list):
        return [scaled(item, name) for item in value]
    return value if isinstance(value, Decimal) else Decimal(value).scaleb(-2 if "price" in name else -5)


def test_parquet_holds_every_message_with_its_level_changes(built, exported):
    found = {}
    for row in parquet_rows(exported("events", "--all")):
        found[row["symbol"], row["event_type"], row["sequence"], row["source_row"]] = row
    events = rows(built, tables.EVENTS) + rows(built, tables.EVENTS_DECIMAL)
    assert len(found) == len(events) > 200
    for event in events:
        row = found[event["symbol"], event["event_type"], event["sequence"], event["source_row"]]
        data = event["data"]
        for name, value in data.items():
            if name.endswith(("prices", "sizes")):
                assert row[name] == scaled(value, name), name
            elif name in ("price", "size"):
                is_trade = event["event_type"] == "trade"
                assert row[name] == (scaled(value, name) if is_trade else None)
            else:
                assert row[name] == value, name
        assert all(row[name] == event[name] for name in ("received", "order_time", "epoch", "hour"))


def test_failed_chunks_are_left_out_and_listed_in_the_manifest(spark, built, deltabook, tmp_path):
    run = deltabook("export", "books", "--out", tmp_path / "e", *into(built))
    assert "left out 1 chunks that failed validation; --all exports them" in run.said
    assert f"rows in {run.summary['files']} files" in run.said
    assert run.summary["books_left_out"] == {"unseeded": 1}
    (view,) = asked(spark, built, "SELECT count(*) AS rows FROM book")
    (every,) = asked(spark, built, "SELECT count(*) AS rows FROM book_all")
    manifest = manifest_of(tmp_path / "e")
    assert manifest["rows"] == run.summary["rows"] == view["rows"] < every["rows"]
    (failed,) = manifest["hours_left_out"]
    assert (failed["symbol"], failed["hour"]) == ("BTC-USDT", _text(START))
    assert failed["reasons"] == ["events: no gaps: 1"]


def _text(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour / 1e9, UTC):%Y-%m-%dT%H:%M:%SZ}"


def test_the_manifest_lists_every_file_and_column(built, exported):
    folder = exported("books", "--all")
    manifest = manifest_of(folder)
    assert manifest["versions"] == require_published(built)
    assert manifest["run_id"] == max(rows(built, tables.RUNS), key=lambda run: run["finished"])["run_id"]
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.parquet"))
    assert [file["path"] for file in manifest["files"]] == paths
    for file in manifest["files"]:
        content = (folder / file["path"]).read_bytes()
        read = pq.ParquetFile(folder / file["path"])
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert file["rows"] == read.metadata.num_rows == sum(file["rows_by_status"].values())
        assert file["rows_by_status"] == Counter(read.read()["status"].to_pylist())
        assert [column["name"] for column in manifest["columns"]] == read.schema_arrow.names
    assert manifest["rows_by_status"].keys() >= {"verified", "suspect", "unseeded"}
    docs = {column["name"]: column["doc"] for column in manifest["columns"]}
    assert docs["bid_prices"] == "Bid prices, exact, in units of price."
    assert "10^" not in "".join(docs.values())


def proven(warehouse: Path) -> list[dict[str, Any]]:
    """Rows of proven books, in order."""
    found = rows(warehouse, tables.BOOKS)
    return in_order([row for row in found if row["status"] not in ("suspect", "unseeded")])


def test_crypto_lake_has_the_nearest_doubles_level_by_level(built, exported):
    folder = exported("books", "--format", "crypto_lake", "--all")
    manifest = manifest_of(folder)
    path = "book/exchange=BINANCE/symbol=BTC-USDT/dt=2024-08-08/1.snappy.parquet"
    assert manifest["files"][0]["path"] == path
    assert manifest["instruments_left_out"] == ["BINANCE ETH-USDT"]
    found = [
        row for file in manifest["files"] for row in pq.ParquetFile(folder / file["path"]).read().to_pylist()
    ]
    expected = proven(built)
    assert len(found) == len(expected) > 60
    assert sum(manifest["books_left_out"].values()) == len(rows(built, tables.BOOKS)) - len(expected) > 0
    for row, book in zip(found, expected, strict=True):
        assert row["sequence_number"] == book["sequence"]
        assert row["received_time"].value == book["received"]
        assert row["origin_time"].value == book["timestamp"]
        for side in SIDES:
            for what in ("price", "size"):
                shown = [row[f"{side}_{level}_{what}"] for level in range(LEVELS)]
                assert shown == [float(scaled(value, what)) for value in book[f"{side}_{what}s"]]


def plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def test_tardis_files_have_exact_decimals_and_vendor_names(built, exported):
    folder = exported("books", "--format", "tardis", "--levels", "5", "--all")
    names = [file["path"] for file in manifest_of(folder)["files"] if file["date"] == "2024-08-08"]
    assert names == [
        f"binance_book_snapshot_5_2024-08-08_{symbol}.csv.gz" for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    found: dict[str, list[list[str]]] = {"BTCUSDT": [], "ETHUSDT": []}
    for file in manifest_of(folder)["files"]:
        header, *lines = gzip.decompress((folder / file["path"]).read_bytes()).decode().splitlines()
        assert header.startswith(
            "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0]"
        )
        found[lines[0].split(",")[1]] += [line.split(",") for line in lines]
    decimal = in_order(rows(built, tables.BOOKS_DECIMAL))
    books = {"BTCUSDT": proven(built), "ETHUSDT": [row for row in decimal if row["status"] != "unseeded"]}
    for symbol, lines in found.items():
        assert len(lines) == len(books[symbol]) > 30
        for line, book in zip(lines, books[symbol], strict=True):
            sides = [
                scaled(book[f"{side}_{what}s"], what) for side in ("ask", "bid") for what in ("price", "size")
            ]
            levels = [plain(side[level]) for level in range(5) for side in sides]
            times = [str(book["timestamp"] // 1000), str(book["received"] // 1000)]
            assert line == ["binance", symbol, *times, *levels]


def test_numbers_are_written_without_exponents_or_needless_digits():
    out = np.zeros(64, dtype=np.uint8)
    for value, scale in [(0, 8), (1, 8), (10, 1), (105, 1), (2**63 - 1, 8), (10**18, 18), (123, 0), (5, 18)]:
        end = write_number(value, scale, out, 1)
        assert out[1:end].tobytes().decode() == plain(Decimal(value).scaleb(-scale))


@pytest.mark.parametrize(
    ("exchange", "symbol", "expected"),
    [
        ("BINANCE", "BTC-USDT", ("binance", "BTCUSDT")),
        ("BINANCE_FUTURES", "BTC-USDT-PERP", ("binance-futures", "BTCUSDT")),
        ("BINANCE_FUTURES", "BTC-USDT-241227", ("binance-futures", "BTCUSDT_241227")),
        ("BINANCE_DELIVERY", "BTC-USD-PERP", ("binance-delivery", "BTCUSD_PERP")),
        ("BITMEX", "BTC-USD-PERP", ("bitmex", "XBTUSD")),
        ("BYBIT", "BTC-USDT-PERP", ("bybit", "BTCUSDT")),
        ("BYBIT", "BTC-USDT", ("bybit-spot", "BTCUSDT")),
        ("DERIBIT", "BTC-USD-PERP", ("deribit", "BTC-PERPETUAL")),
        ("OKX", "BTC-USDT", ("okex", "BTC-USDT")),
        ("OKX", "BTC-USDT-PERP", ("okex-swap", "BTC-USDT-SWAP")),
        ("OKX", "BTC-USD-210924", ("okex-futures", "BTC-USD-210924")),
        ("KRAKEN", "BTC-USD", ("kraken", "XBT/USD")),
        ("KRAKEN", "ETH-BTC", ("kraken", "ETH/XBT")),
    ],
)
def test_tardis_names_map_back_to_the_instrument(exchange, symbol, expected):
    assert make_vendor_names(exchange, symbol) == expected
    assert instrument(*expected)[1] == symbol


def test_an_instrument_without_a_tardis_name_is_refused():
    with pytest.raises(InputError, match="Export the instrument with --format parquet"):
        make_vendor_names("BITMEX", "ETHBTC")


def test_crypto_lake_books_are_golden_rows_that_all_match(spark, tmp_path):
    files = lake(tmp_path / "raw")
    build("crypto_lake", files, tmp_path / "w", "--seed", "golden")
    run = invoke("export", "books", "--format", "crypto_lake", "--out", tmp_path / "e", *into(tmp_path / "w"))
    assert run.exit_status == 0, run.said
    feed = [of_table(files, "book_delta_v2"), of_table(files, "trades"), tmp_path / "e" / "book"]
    again = invoke("run", "crypto_lake", *feed, "--seed", "golden", *into(tmp_path / "again"))
    assert again.exit_status == 0, again.said
    matches = again.summary["golden_matches"]["vendor_book"]
    # The first book only seeds: no row before it is told.
    assert matches["compared"] == matches["matched"] == run.summary["rows"] - 1 > 30


def test_tardis_books_are_golden_rows_that_all_match(spark, tmp_path):
    feed = tardis.csv_lines(Market(3), 40, "binance-futures", "BTCUSDT")
    files = [
        path
        for name in ("incremental_book_L2", "trades")
        for path in tardis.write_csv(feed[name], tmp_path / "raw", name, "binance-futures", "BTCUSDT")
    ]
    build("tardis", files, tmp_path / "w")
    run = invoke("export", "books", "--format", "tardis", "--out", tmp_path / "e", *into(tmp_path / "w"))
    assert run.exit_status == 0, run.said
    again = invoke("run", "tardis", *files, *(tmp_path / "e").glob("*.gz"), *into(tmp_path / "again"))
    assert again.exit_status == 0, again.said
    matches = again.summary["golden_matches"]["vendor_book"]
    # The first is that of a snapshot, which is no diff.
    assert matches["compared"] == matches["matched"] == run.summary["rows"] - 1 > 20


def test_only_rows_between_from_and_to_are_exported(built, exported):
    every = parquet_rows(exported("books", "--symbol", "BTC-USDT", "--all"))
    since, until = every[40]["order_time"], every[90]["order_time"]
    how = ("--symbol", "BTC-USDT", "--all", "--from", str(since), "--to", str(until))
    found = parquet_rows(exported("books", *how))
    assert found == [row for row in every if since <= row["order_time"] < until]
    assert 40 < len(found) < len(every) - 40
    manifest = manifest_of(exported("books", *how))
    first, *_, last = manifest["files"]
    assert first["first_time"] == manifest["from"] < last["last_time"] < manifest["to"]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (("features", "--format", "tardis"), "features as tardis: not supported. Choose"),
        (
            ("features", "--format", "tardis"),
            "books: parquet, crypto_lake, tardis; features: parquet; events:",
        ),
        (("quotes",), "quotes as parquet: not supported. Choose"),
        (("books", "--format", "csv"), "events: parquet, hftbacktest; trades: parquet"),
        (("books", "--levels", 5), "--levels: only crypto_lake and tardis have columns for each level"),
        (("books", "--symbol", "XRP-USDT"), "no XRP-USDT in"),
        (("books", "--symbol", "XRP-USDT"), "here are: BINANCE BTC-USDT, BINANCE ETH-USDT"),
        (("books", "--exchange", "KRAKEN"), "there are: BINANCE"),
        (("books", "--from", "2024-08-10"), "no books to export as parquet: there are no rows between"),
        (("books", "--from", "2024-08-10", "--to", "2024-08-09"), "--from is not before --to"),
        (("books", "--format", "crypto_lake", "--symbol", "ETH-USDT"), "export as parquet, tardis"),
    ],
)
def test_unsupported_exports_list_the_supported_ones(built, tmp_path, how, expected):
    run = invoke("export", *how, "--out", tmp_path / "e", *into(built))
    assert run.exit_status == 2
    assert expected in run.said
    assert not (tmp_path / "e").exists() or not any((tmp_path / "e").iterdir())


def small(built: Path, folder: Path, *how: object) -> Any:
    return invoke("export", "trades", "--symbol", "ETH-USDT", "--out", folder, *how, *into(built))


def test_a_folder_with_other_files_is_refused_unchanged(built, tmp_path):
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "mine.txt").write_text("mine")
    for how in ((), ("--replace",)):
        run = small(built, tmp_path / "e", *how)
        assert run.exit_status == 2
        assert "has 1 files that are not part of an export, such as mine.txt" in run.said
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["mine.txt"]


def test_a_manifest_with_paths_outside_the_folder_is_refused(built, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "e").mkdir()
    listed = {"files": [{"path": "../mine.txt"}]}
    (tmp_path / "e" / "manifest.json").write_text(json.dumps(listed))
    run = small(built, tmp_path / "e", "--replace")
    assert (run.exit_status, "is not the manifest of an export" in run.said) == (2, True)
    assert (tmp_path / "mine.txt").exists()


def test_an_export_is_replaced_only_with_the_option(built, tmp_path):
    folder = tmp_path / "e"
    assert invoke("export", "books", "--out", folder, *into(built)).exit_status == 0
    first = manifest_of(folder)
    run = small(built, folder)
    assert (run.exit_status, "already has an export: give --replace" in run.said) == (2, True)
    assert manifest_of(folder) == first
    run = small(built, folder, "--replace")
    assert run.exit_status == 0, run.said
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {file["path"] for file in manifest_of(folder)["files"]} | {"manifest.json"}
    assert manifest_of(folder)["what"] == "trades"


def test_a_killed_export_is_rolled_back_by_the_next(built, tmp_path):
    """Killed as its files were being moved: they are known by the manifest that was to come."""
    folder = tmp_path / "e"
    (folder / "_unfinished").mkdir(parents=True)
    coming = {"files": [{"path": "one"}, {"path": "two"}]}
    (folder / "_unfinished" / "manifest.json").write_text(json.dumps(coming))
    (folder / "one").write_text("one")
    run = small(built, folder)
    assert run.exit_status == 0, run.said
    assert not (folder / "one").exists() and not (folder / "_unfinished").exists()


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    move = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "two":
            raise KeyboardInterrupt
        return move(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with (
        pytest.raises(KeyboardInterrupt),
        output_folder.OutputFolder(tmp_path / "e", replace=False) as opened,
    ):
        for name in ("one", "two"):
            (opened.staging / name).write_text(name)
        opened.publish({"files": [{"path": "one"}, {"path": "two"}]})
    assert [*(tmp_path / "e").iterdir()] == []


def test_a_second_export_into_a_folder_at_once_is_refused(tmp_path):
    again = output_folder.OutputFolder(tmp_path / "e", replace=False)
    refused = pytest.raises(SettingsError, match="is being written by another export")
    with output_folder.OutputFolder(tmp_path / "e", replace=False), refused:
        again.__enter__()


def test_a_failing_worker_leaves_an_empty_folder(built, tmp_path):
    stored = TableReader(built, require_published(built))
    copy = tmp_path / "w"
    output_folder.shutil.copytree(built, copy)
    uri = next(iter(stored.data_files(tables.BOOKS).values()))[0]
    (copy / parse_location(uri).relative_to(built)).write_bytes(b"PAR1")
    run = invoke("export", "books", "--all", "--out", tmp_path / "e", *into(copy))
    assert run.exit_status == 2
    assert not (tmp_path / "e" / "manifest.json").exists()
    assert not [path for path in (tmp_path / "e").rglob("*.parquet") if "_unfinished" not in path.parts]


def test_sides_of_unequal_length_are_paired_as_far_as_both_go():
    asks, bids = (pa.array(lists) for lists in ([[5, 6], [7], [], [9]], [[1], [2, 3, 4], [8], []]))
    starts, left, right = pair_levels(asks, bids)
    assert (starts.tolist(), left.to_pylist(), right.to_pylist()) == ([0, 1, 2, 2, 2], [5, 7], [1, 2])
    assert firsts(bids).to_pylist() == [1, 2, 8, None]
    assert grid(np.arange(4.0), np.array([0, 1, 4]), 2, -1.0).tolist() == [[0.0, 1.0], [-1.0, 2.0]]


def test_a_message_without_a_time_gets_its_order_time():
    batch = pa.RecordBatch.from_pydict({"timestamp": [5_000_999, -1], "order_time": [7_000_000, 9_000_000]})
    assert export_parquet._make_times(batch).cast(pa.int64()).to_pylist() == [5000, 9000]
