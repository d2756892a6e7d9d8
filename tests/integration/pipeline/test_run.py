"""The command line turns raw files into verified books. All tests of this file share one Spark session."""

import hashlib
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from captures import depth_rows, message_of, simulated_lines, write
from cluster import PROJECT, SUBMIT, jars

from deltabook.expectations.suites import SUITES

pytestmark = pytest.mark.spark

CONTENT = ("exchange", "symbol", "hour", "timestamp", "received", "order_time", "epoch", "sequence")
SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


def digest(spark, warehouse: Path, table: str) -> str:
    """One hash over a table's rows, sorted, without the names of raw files."""
    frame = spark.read.format("delta").load(str(warehouse / table))
    names = [
        name for name in frame.columns if name not in ("source_file", "source_row", "fingerprint", "data")
    ]
    columns = (
        [*names, *(f"data.{name}" for name in ("is_snapshot", *SIDES, "price", "size"))]
        if (table == "events")
        else names
    )
    rows = sorted(json.dumps(row.asDict(), default=str) for row in frame.select(columns).collect())
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def versions(warehouse: Path) -> dict[str, int]:
    return {
        log.parent.name: len(list(log.glob("*.json")))
        for log in warehouse.glob("*/_delta_log")
        if log.parent.name not in ("runs", "fidelity", "validations")
    }


@pytest.fixture(scope="module")
def simulated(spark, tmp_path_factory):
    """A warehouse of two simulated symbols, one of them on both markets, with the run's outcome."""
    from conftest import invoke

    folder = tmp_path_factory.mktemp("simulated")
    files = [
        write(folder / "raw" / "btcusdt.gz", simulated_lines()),
        write(folder / "raw" / "ethusdt.jsonl", simulated_lines(symbol="ETHUSDT", seed=4), compress=False),
        write(folder / "raw" / "futures.gz", simulated_lines(market_type="usdm", seed=5)),
    ]
    warehouse = folder / "warehouse"
    return warehouse, files, invoke("run", "binance", *files, "--warehouse", warehouse, "--json")


@pytest.mark.real_data
@pytest.mark.parametrize(("market", "matched", "compared"), [("spot", 6493, 6493), ("usdm", 9013, 9013)])
def test_real_capture_matches_the_exchange(deltabook, real_data, tmp_path, market, matched, compared):
    run = deltabook("run", "binance", real_data / "binance" / market, "--warehouse", tmp_path, "--json")
    assert run.exit_status == 0
    assert run.summary["gaps"] == 0
    assert run.summary["crossed"] == 0
    (match,) = run.summary["golden_matches"].values()
    assert (match["compared"], match["matched"]) == (compared, matched)
    assert run.summary["verdicts"] == dict.fromkeys(SUITES, "passed")


def test_simulated_market_is_rebuilt_exactly(simulated):
    _, _, run = simulated
    assert run.exit_status == 0
    assert run.summary["files_read"] == 3
    for match in run.summary["golden_matches"].values():
        assert match["compared"] == match["matched"] > 300
    assert set(run.summary["golden_matches"]) == {"book_ticker", "vendor_book"}
    assert run.summary["verdicts"] == dict.fromkeys(SUITES, "passed")


def test_ingesting_the_same_files_twice_changes_nothing(simulated, deltabook):
    warehouse, files, _ = simulated
    before = versions(warehouse)
    again = deltabook("run", "binance", *files, "--warehouse", warehouse, "--json")
    assert again.exit_status == 0
    assert again.summary["files_known"] == 3
    assert again.summary["symbol_hours_rebuilt"] == 0
    assert versions(warehouse) == before


def test_every_event_names_its_file_and_row(simulated, deltabook):
    warehouse, files, _ = simulated
    query = """SELECT source_file, source_row, sequence FROM events
        WHERE event_type = 'trade' AND symbol = 'ETH-USDT'"""
    outcome = deltabook("sql", query, "--warehouse", warehouse, "--format", "json")
    lines = simulated_lines(symbol="ETHUSDT", seed=4)
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert len(rows) > 100
    for row in rows:
        assert row["source_file"] == str(files[1])
        assert message_of(lines[row["source_row"] - 1])["t"] == row["sequence"]


def test_documented_query_of_the_event_schema_works(simulated, deltabook):
    warehouse, _, _ = simulated
    query = "SELECT timestamp, event_type, symbol, data, sequence FROM events LIMIT 3"
    outcome = deltabook("sql", query, "--warehouse", warehouse, "--format", "csv", "--json")
    assert outcome.stdout.splitlines()[0] == "timestamp,event_type,symbol,data,sequence"
    assert outcome.summary == {"rows": 3, "exit_status": 0}


def test_views_show_exact_decimals(simulated, deltabook):
    warehouse, _, _ = simulated
    query = """SELECT book.bid_price, books.bid_prices[0] AS scaled, book.spread, book.ask_price
        FROM book JOIN books USING (exchange, symbol, sequence, order_time, status)
        WHERE book.status = 'verified'"""
    outcome = deltabook("sql", query, "--warehouse", warehouse, "--format", "json")
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert len(rows) > 200
    for row in rows:
        assert Decimal(row["bid_price"]) == Decimal(row["scaled"]).scaleb(-8)
        assert Decimal(row["spread"]) == Decimal(row["ask_price"]) - Decimal(row["bid_price"])
    counted = deltabook(
        "sql", "SELECT count(*) AS n FROM trades", "--warehouse", warehouse, "--format", "json"
    )
    assert json.loads(counted.stdout)["n"] > 500


def test_books_have_the_trades_since_the_row_before(simulated, spark):
    warehouse, _, _ = simulated
    books = spark.read.format("delta").load(str(warehouse / "books"))
    counted = {(r.exchange, r.symbol): r["sum(trade_count)"] for r in
               books.groupBy("exchange", "symbol").sum("trade_count").collect()}  # fmt: skip
    events = spark.read.format("delta").load(str(warehouse / "events"))
    last = {(r.exchange, r.symbol): r["max(order_time)"] for r in
            books.groupBy("exchange", "symbol").agg({"order_time": "max"}).collect()}  # fmt: skip
    trades = events.where("event_type = 'trade'").select("exchange", "symbol", "order_time").collect()
    for key, count in counted.items():
        assert count == sum((t.exchange, t.symbol) == key and t.order_time <= last[key] for t in trades)


def test_ladder_is_printed_without_a_session(simulated, deltabook):
    warehouse, _, _ = simulated
    shown = deltabook("book", "ETH-USDT", "--warehouse", warehouse, "--levels", 3, "--json")
    asks, bids = shown.summary["asks"], shown.summary["bids"]
    assert len(asks) == len(bids) == 3
    assert Decimal(bids[0][0]) < Decimal(asks[0][0])
    assert bids[0][0] in shown.stdout
    assert shown.summary["status"] == "verified"


def test_ladder_before_the_first_book_is_an_error(simulated, deltabook):
    warehouse, _, _ = simulated
    shown = deltabook(
        "book", "BTC-USDT", "--exchange", "BINANCE", "--at", "2001-01-01", "--warehouse", warehouse
    )
    assert shown.exit_status == 2
    assert "first book comes later" in shown.said


def test_unknown_symbol_lists_the_known_ones(simulated, deltabook):
    warehouse, _, _ = simulated
    shown = deltabook("book", "XRP-USDT", "--warehouse", warehouse)
    assert shown.exit_status == 2
    assert "BINANCE BTC-USDT, BINANCE ETH-USDT, BINANCE_FUTURES BTC-USDT-PERP" in shown.said


def test_wrong_query_names_the_views(simulated, deltabook):
    warehouse, _, _ = simulated
    asked = deltabook("sql", "SELECT nothing FROM nowhere", "--warehouse", warehouse)
    assert asked.exit_status == 2
    assert "tables: books, books_decimal," in asked.said
    assert "views: book, book_all," in asked.said
    assert "functions: book_at," in asked.said


def test_message_cadence_writes_a_row_for_every_applied_update(simulated, deltabook, spark):
    warehouse, _, run = simulated
    changes = run.summary["book_rows"]["verified"]
    try:
        rebuilt = deltabook("reconstruct", "--cadence", "message", "--warehouse", warehouse, "--json")
        assert rebuilt.summary["book_rows"]["verified"] > changes
        assert (
            rebuilt.summary["book_rows"]["verified"] == 3 * (120 - 5) + 3
        )  # five stale diffs, one snapshot each
    finally:
        deltabook("reconstruct", "--warehouse", warehouse)


def test_lost_diff_is_one_gap_and_the_books_after_it_are_suspect(deltabook, spark, tmp_path):
    lines = list(simulated_lines())
    lost = depth_rows(lines)[60]
    following = message_of(lines[depth_rows(lines)[61]])
    del lines[lost]
    raw = write(tmp_path / "raw.gz", lines)
    run = deltabook("run", "binance", raw, "--warehouse", tmp_path / "w", "--json")
    assert run.exit_status == 1
    assert run.summary["gaps"] == 1
    failed = {"events": "failed", "books": "failed"}
    assert run.summary["verdicts"] == dict.fromkeys(SUITES, "passed") | failed
    gap = spark.read.format("delta").load(str(tmp_path / "w" / "gaps")).first()
    assert (gap.kind, gap.found, gap.resolved_sequence) == ("sequence_gap", following["U"], -1)
    assert gap.expected < gap.found
    assert gap.updates_affected == 120 - 61
    books = spark.read.format("delta").load(str(tmp_path / "w" / "books"))
    after = books.where(books.sequence >= following["u"]).select("status").distinct().collect()
    before = books.where(books.sequence < following["u"]).select("status").distinct().collect()
    assert [row.status for row in after] == ["suspect"]
    assert {row.status for row in before} == {"unseeded", "verified"}


def test_late_file_fills_its_gap(deltabook, spark, tmp_path):
    lines = list(simulated_lines())
    lost = depth_rows(lines)[60]
    first = write(tmp_path / "first.gz", lines[:lost] + lines[lost + 1 :])
    late = write(tmp_path / "late.gz", [lines[lost]])
    whole = write(tmp_path / "whole.gz", lines)
    deltabook("run", "binance", first, "--warehouse", tmp_path / "w")
    run = deltabook("run", "binance", late, "--warehouse", tmp_path / "w", "--json")
    assert run.exit_status == 0
    assert run.summary["gaps"] == 0
    deltabook("run", "binance", whole, "--warehouse", tmp_path / "once")
    for table in ("events", "books"):
        assert digest(spark, tmp_path / "w", table) == digest(spark, tmp_path / "once", table)


def test_chunk_and_file_boundaries_do_not_change_books(deltabook, spark, tmp_path):
    """A capture over an hour's edge: whole, and as two files that come in the wrong order."""
    from deltabook.udfs.simulator.binance import capture_lines
    from deltabook.udfs.simulator.market import Market

    hour = 3_600_000_000_000
    start = 1_723_161_255_000_000_000 // hour * hour + hour - 4_000_000_000
    lines = list(capture_lines(Market(9, start_time=start), 90, "BTCUSDT"))
    whole = write(tmp_path / "whole.gz", lines)
    cut = depth_rows(lines)[70]
    parts = [write(tmp_path / "b.gz", lines[cut:]), write(tmp_path / "a.gz", lines[:cut])]
    run = deltabook("run", "binance", whole, "--warehouse", tmp_path / "once", "--json")
    assert run.summary["symbol_hours"] == 2
    match = run.summary["golden_matches"]["vendor_book"]
    assert match == {"compared": 85, "matched": 85, "left_out": {"unsound": 5}}
    for part in parts:
        run = deltabook("run", "binance", part, "--warehouse", tmp_path / "parts", "--json")
    assert run.exit_status == 0
    for table in ("events", "books", "checkpoints", "hours"):
        assert digest(spark, tmp_path / "once", table) == digest(spark, tmp_path / "parts", table), table


def test_truncated_gzip_is_refused_and_other_files_are_ingested(deltabook, spark, tmp_path):
    good = write(tmp_path / "raw" / "good.gz", simulated_lines(symbol="ETHUSDT", seed=4))
    bad = write(tmp_path / "raw" / "bad.gz", simulated_lines())
    complete = bad.read_bytes()
    bad.write_bytes(complete[: len(complete) // 2])
    run = deltabook("run", "binance", tmp_path / "raw", "--warehouse", tmp_path / "w", "--json")
    assert run.exit_status == 3
    assert [refused["path"] for refused in run.summary["refused"]] == [str(bad)]
    assert "EOFError" in run.summary["refused"][0]["reason"]
    for table in ("events", "golden", "books"):
        rows = spark.read.format("delta").load(str(tmp_path / "w" / table))
        assert [row.symbol for row in rows.select("symbol").distinct().collect()] == ["ETH-USDT"]
    ledger = spark.read.format("delta").load(str(tmp_path / "w" / "files")).collect()
    assert {Path(row.path).name: row.state for row in ledger} == {"good.gz": "ingested", "bad.gz": "failed"}
    bad.write_bytes(complete)
    run = deltabook("ingest", "binance", tmp_path / "raw", "--warehouse", tmp_path / "w", "--json")
    assert (run.exit_status, run.summary["files_read"], run.summary["files_known"]) == (0, 1, 1)
    assert good.exists()


def test_unreadable_line_goes_to_quarantine_with_file_and_row(deltabook, spark, tmp_path):
    lines = list(simulated_lines())
    row = depth_rows(lines)[50]
    lines[row] = lines[row].replace(b'"b":[["', b'"b":[["-', 1)
    raw = write(tmp_path / "raw.jsonl", lines, compress=False)
    run = deltabook("run", "binance", raw, "--warehouse", tmp_path / "w", "--json")
    assert run.exit_status == 1
    assert run.summary["quarantined"] == 1
    assert run.summary["gaps"] == 1
    kept = spark.read.format("delta").load(str(tmp_path / "w" / "quarantine")).first()
    assert (kept.source_file, kept.source_row) == (str(raw), row + 1)
    assert "is negative" in kept.reason
    assert bytes(kept.raw) + b"\n" == lines[row]


def test_changed_file_under_a_known_name_is_refused_or_replaces_the_old_one(deltabook, spark, tmp_path):
    lines = list(simulated_lines())
    half = depth_rows(lines)[60]
    files = [tmp_path / "raw" / name for name in ("a.gz", "b.gz")]
    write(files[0], lines[: half + 20])  # the two tell some of the same messages
    write(files[1], lines[half:])
    warehouse, fresh = tmp_path / "w", tmp_path / "fresh"
    deltabook("run", "binance", *files, "--warehouse", warehouse)
    write(files[0], lines[: half + 40])
    again = deltabook("ingest", "binance", files[0], "--warehouse", warehouse, "--json")
    assert again.exit_status == 3
    assert "has changed since it was ingested; --replace" in again.said
    write(files[0], lines[:half])
    replaced = deltabook("run", "binance", *files, "--replace", "--warehouse", warehouse, "--json")
    assert (replaced.exit_status, replaced.summary["files_replaced"]) == (0, 1)
    deltabook("run", "binance", *files, "--warehouse", fresh)
    for table in ("events", "books", "golden"):
        assert digest(spark, warehouse, table) == digest(spark, fresh, table), table
    assert spark.read.format("delta").load(str(warehouse / "files")).count() == 2


def test_prices_beyond_doubles_stay_exact(deltabook, tmp_path):
    price = Decimal(2**53 + 1).scaleb(-8)
    lines = [
        b'{"lastUpdateId":10,"bids":[["%s","0.00000001"]],' % str(price).encode()
        + b'"asks":[["92233720368.54775807","1"]]}\n',
        b'{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":11,"u":12,"b":[],"a":[]}\n',
        b'{"e":"depthUpdate","E":1723161255308,"s":"BTCUSDT","U":13,"u":13,"b":[["1","2"]],"a":[]}\n',
    ]  # fmt: skip
    raw = write(tmp_path / "raw.jsonl", lines, compress=False)
    run = deltabook("run", "binance", raw, "--warehouse", tmp_path / "w", "--json")
    assert run.summary["verdicts"] == dict.fromkeys(SUITES, "passed") | {"fidelity": "none"}
    query = (
        "SELECT bid_price, bid_size, ask_price, spread FROM book WHERE status = 'verified' ORDER BY sequence"
    )
    shown = deltabook("sql", query, "--warehouse", tmp_path / "w", "--format", "json")
    row = json.loads(shown.stdout.splitlines()[0])
    assert row["bid_price"] == "90071992.54740993"
    assert row["bid_size"] == "0.00000001"
    assert row["ask_price"] == "92233720368.54775807"
    assert row["spread"] == "92143648376.00034814"


def test_work_of_an_unfinished_run_is_rolled_back(deltabook, spark, tmp_path):
    raw = write(tmp_path / "raw.gz", simulated_lines())
    deltabook("run", "binance", raw, "--warehouse", tmp_path / "w")
    before = {table: digest(spark, tmp_path / "w", table) for table in ("events", "books", "files")}
    for table in before:  # as if the process had been killed between its commits
        path = str(tmp_path / "w" / table)
        spark.read.format("delta").load(path).limit(5).write.format("delta").mode("append").save(path)
    asked = deltabook(
        "sql", "SELECT count(*) AS n FROM books", "--warehouse", tmp_path / "w", "--format", "json"
    )
    run = deltabook("run", "binance", raw, "--warehouse", tmp_path / "w", "--json")
    assert run.exit_status == 0
    assert json.loads(asked.stdout)["n"] == sum(run.summary["book_rows"].values())
    assert {table: digest(spark, tmp_path / "w", table) for table in before} == before


def test_second_writer_is_sound_to_wait(deltabook, tmp_path, monkeypatch):
    from filelock import FileLock

    raw = write(tmp_path / "raw.gz", simulated_lines())
    monkeypatch.setattr("deltabook.jobs.warehouse.warehouse._LOCK_SECONDS", 0.1)
    (tmp_path / "w").mkdir()
    with FileLock(tmp_path / "w" / ".lock"):
        run = deltabook("ingest", "binance", raw, "--warehouse", tmp_path / "w")
    assert run.exit_status == 4
    assert "is being written by another process" in run.said


def test_wrong_path_is_a_usage_error(deltabook, tmp_path):
    run = deltabook("run", "binance", tmp_path / "nowhere", "--warehouse", tmp_path / "w")
    assert run.exit_status == 2
    assert f"no such file or folder: {tmp_path / 'nowhere'}" in run.said


def test_unknown_source_lists_the_known_ones(deltabook, tmp_path):
    run = deltabook("run", "nowhere", tmp_path, "--warehouse", tmp_path / "w")
    assert run.exit_status == 2
    assert "expected one of auto, binance, crypto_lake, tardis" in run.said


def test_query_of_an_empty_warehouse_says_what_to_do(deltabook, tmp_path):
    asked = deltabook("sql", "SELECT 1", "--warehouse", tmp_path)
    assert asked.exit_status == 2
    assert "is empty: run `deltabook run`" in asked.said


def test_spark_submit_runs_the_same_job(tmp_path):
    """A process of its own: spark-submit starts the JVM, and its session is the one used."""
    raw = write(tmp_path / "raw.gz", simulated_lines())
    submit = [SUBMIT, "--master", "local[1]", "--jars", jars()]
    done = subprocess.run(
        [*submit, PROJECT / "jobs" / "run.py", "binance", raw, "--warehouse", tmp_path / "w", "--json"],
        env=os.environ | {"PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["verdicts"] == dict.fromkeys(SUITES, "passed")


def test_one_run_can_extend_an_old_chunk_and_add_a_new_one(deltabook, spark, tmp_path):
    from deltabook.udfs.simulator.binance import capture_lines
    from deltabook.udfs.simulator.market import Market

    hour = 3_600_000_000_000
    start = 1_723_161_255_000_000_000 // hour * hour + hour - 4_000_000_000
    lines = list(capture_lines(Market(9, start_time=start), 90, "BTCUSDT"))
    cut = depth_rows(lines)[20]
    for name, part in (("first.gz", lines[:cut]), ("second.gz", lines[cut:])):
        run = deltabook(
            "run", "binance", write(tmp_path / name, part), "--warehouse", tmp_path / "w", "--json"
        )
        assert run.exit_status == 0
    assert run.summary["symbol_hours"] == run.summary["symbol_hours_rebuilt"] == 2
    match = run.summary["golden_matches"]["vendor_book"]
    assert match == {"compared": 85, "matched": 85, "left_out": {"unsound": 5}}


def test_files_that_are_no_captures_are_refused(deltabook, tmp_path):
    write(tmp_path / "raw" / "notes.csv", [b"timestamp,price\n", b"1,2\n"], compress=False)
    write(tmp_path / "raw" / "empty.jsonl", [], compress=False)
    write(tmp_path / "raw" / ".hidden" / "x.jsonl", [b"?\n"], compress=False)
    run = deltabook("run", "binance", tmp_path / "raw", "--warehouse", tmp_path / "w", "--json")
    assert run.exit_status == 3
    assert run.summary["files_new"] == 2
    (refused,) = run.summary["refused"]
    assert refused["path"].endswith("notes.csv")
    assert "no line could be read; line 1: not JSON" in refused["reason"]
    assert run.summary["verdicts"] == dict.fromkeys(SUITES, "errored")


def test_trades_or_updates_alone_give_no_invented_book(deltabook, tmp_path):
    lines = simulated_lines()
    only_trades = [line for line in lines if b"@trade" in line]
    only_tickers = [line.replace(b"BTCUSDT", b"ETHUSDT") for line in lines if b"@bookTicker" in line]
    only_depth = [line.replace(b"BTCUSDT", b"XRPUSDT") for line in lines if b"@depth@" in line[:80]]
    for name, part in (("t", only_trades), ("b", only_tickers), ("d", only_depth)):
        write(tmp_path / "raw with space" / f"{name}.gz", part)
    run = deltabook(
        "run", "binance", tmp_path / "raw with space", "--warehouse", tmp_path / "w = 1%", "--json"
    )
    assert run.exit_status == 1
    assert run.summary["book_rows"] == {"unseeded": 1}
    assert run.summary["gaps"] == 1  # missing_snapshot
    assert run.summary["golden_matches"] == {}


def test_trades_of_the_other_stream_are_counted_as_skipped(deltabook, tmp_path):
    lines = simulated_lines()
    aggregated = [
        line.replace(b'"trade"', b'"aggTrade"').replace(b'"t":', b'"a":')
        for line in lines
        if b"@trade" in line
    ]
    raw = [write(tmp_path / "depth.gz", [line for line in lines if b"@trade" not in line])]
    raw.append(write(tmp_path / "agg.gz", aggregated))
    raw.append(write(tmp_path / "trades.gz", [line for line in lines if b"@trade" in line]))
    taken = [
        deltabook("ingest", "binance", file, "--warehouse", tmp_path / "w", "--json").summary for file in raw
    ]
    assert [(summary["trades"], summary["trades_skipped"]) for summary in taken] == [
        (0, 0),
        (len(aggregated), 0),
        (0, len(aggregated)),
    ]


def test_runtime_error_of_a_query_is_one_message(simulated, deltabook):
    warehouse, _, _ = simulated
    asked = deltabook("sql", "SELECT 1 / (sequence - sequence) FROM events", "--warehouse", warehouse)
    assert asked.exit_status == 2
    assert "deltabook: [DIVIDE_BY_ZERO]" in asked.said
