"""The report: it shows the numbers of the tables, escapes text from data, and can be drawn by a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from captures import depth_rows, simulated_lines, with_wrong_tickers, write
from deltalake import DeltaTable, write_deltalake
from faulted import into, rows

from deltabook.jobs.report.books import TRADES, read_books, read_trades
from deltabook.jobs.report.data_files import DataFile, list_data_files
from deltabook.jobs.report.depth import measure_depth
from deltabook.jobs.report.figures import draw_over_runs
from deltabook.jobs.report.page import write_report
from deltabook.jobs.report.plot import depth_figure, write_plot
from deltabook.jobs.report.runs import find_drifts
from deltabook.jobs.report.statistics import conditional_volatility
from deltabook.jobs.report.time_grid import COLUMNS, build_time_grid
from deltabook.jobs.report.timeline import _Axis
from deltabook.jobs.report.verdict import format_match
from deltabook.jobs.tables.delta_tables import open_table
from deltabook.jobs.tables.published import FailedChunksWarning, published_table, require_published
from deltabook.jobs.tables.seals import compute_seal
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas import tables
from deltabook.schemas.columns import Table
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.names import HOUR, NANOSECONDS_PER_SECOND

pytestmark = pytest.mark.spark

HOSTILE = "</script><script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>"
BTC, ETH = ("BINANCE", "BTC-USDT"), ("BINANCE", "ETH-USDT")
HIDDEN = ("script", "style")


class Page(HTMLParser):
    """A page as a browser without JavaScript sees it."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.texts: list[str] = []
        self.open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in HIDDEN:
            self.open = tag
            self.scripts += [""] * (tag == "script")

    def handle_endtag(self, tag: str) -> None:
        self.open = "" if tag == self.open else self.open

    def handle_data(self, data: str) -> None:
        if self.open == "script":
            self.scripts[-1] += data
        elif not self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page_of(warehouse: Path, folder: Path, **how: Any) -> tuple[Page, str, dict[str, Any]]:
    told = write_report(warehouse, folder / "report.html", **how)
    text = (folder / "report.html").read_text()
    return Page(text), text, told


def publish(warehouse: Path, added: dict[Table, list[dict[str, Any]]], mode: str = "append") -> str:
    """Publish rows by a run of their own."""
    runs = open_table(warehouse, tables.RUNS).to_pyarrow_table().to_pylist()
    newest = max(runs, key=lambda run: run["finished"])
    run_id = f"29990101T000000-{len(runs):08}"
    versions = dict(newest["versions"])
    for table, found in added.items():
        DeltaTable.create(
            str(warehouse / table.name),
            table.arrow,
            mode="ignore",
            partition_by=list(table.partition_by),
            configuration={"deltabook.schema_version": tables.SCHEMA_VERSION},
            raise_if_key_not_exists=False,
        )
        found = [row | ({"run_id": run_id} if table is tables.FIDELITY else {}) for row in found]
        write_deltalake(
            str(warehouse / table.name), pa.Table.from_pylist(found, schema=table.arrow), mode=mode
        )
        versions[table.name] = open_table(warehouse, table).version()
    later = {name: newest[name] + NANOSECONDS_PER_SECOND for name in ("started", "finished")}
    run = newest | later | {"run_id": run_id, "command": "validate", "versions": list(versions.items())}
    run |= {"version": open_table(warehouse, tables.RUNS).version() + 1}
    run |= {"seal": compute_seal(run)}
    write_deltalake(
        str(warehouse / "runs"), pa.Table.from_pylist([run], schema=tables.RUNS.arrow), mode="append"
    )
    return run_id


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory) -> Path:
    """Two markets. One, in decimals, lacks a diff and has wrong tickers. Both are judged."""
    from conftest import invoke

    folder = tmp_path_factory.mktemp("report")
    broken = with_wrong_tickers(simulated_lines(400, symbol="ETHUSDT", seed=4), every=20)
    del broken[depth_rows(broken)[60]]
    files = [write(folder / "btc.gz", simulated_lines(400)), write(folder / "eth.gz", broken)]
    config = folder / "config.yaml"
    config.write_text("instruments: {BINANCE: {ETH-USDT: {is_decimal: true}}}")
    run = invoke("run", "binance", *files, "--config", config, *into(folder / "w"))
    assert run.exit_status == 1, run.said
    return folder / "w"


@pytest.fixture(scope="module")
def shown(built, tmp_path_factory) -> tuple[Page, str, dict[str, Any]]:
    return page_of(built, tmp_path_factory.mktemp("page"))


@pytest.fixture
def copied(built, tmp_path) -> Path:
    shutil.copytree(built, tmp_path / "w")
    return tmp_path / "w"


def metric(name: str, level: int = 0, **more: Any) -> dict[str, Any]:
    """A row of `fidelity` of all hours of BTC-USDT."""
    blank = {
        column.name: {"BIGINT": -1, "STRING": ""}.get(column.type, np.nan) for column in FIDELITY.columns
    }
    whose = {"exchange": "BINANCE", "symbol": "BTC-USDT", "hour": -1, "kind": "book_ticker"}
    return blank | whose | {"metric": name, "level": level, "compared": 150} | more


FIDELITY = tables.FIDELITY


def test_verdict_of_the_page_is_that_of_the_table(built, shown):
    page, _, told = shown
    verdicts = rows(built, tables.VERDICTS)
    assert told["verdict"] == "failed"
    assert told["verdicts"]["raw"] == "passed"
    for suite in ("raw", "events", "books", "fidelity"):
        of_suite = [row["verdict"] for row in verdicts if row["suite"] == suite]
        worst = "failed" if "failed" in of_suite else "passed"
        assert told["verdicts"][suite] == worst
        counts = ", ".join(
            f"{of_suite.count(word)} {word}" for word in ("failed", "passed") if word in of_suite
        )
        assert f"{suite} {worst} {counts}" in page.text
    failed = {(row["symbol"], row["hour"]) for row in verdicts if row["verdict"] == "failed"}
    assert f"{len(failed)} of 2 symbol-hours failed at least one suite" in page.text
    for row in verdicts:
        assert row["verdict"] != "failed" or f"{row['suite']} of BINANCE {row['symbol']}" in page.text
        assert row["reasons"] in page.text


def test_golden_matches_gaps_and_coverage_are_those_of_the_tables(built, shown):
    page, _, _ = shown
    counts = [dict(row["counts"]) for row in rows(built, tables.VERDICTS)]
    compared, matched = (
        sum(count.get(f"book_ticker {what}", 0) for count in counts) for what in ("compared", "matched")
    )
    assert 0 < matched < compared
    assert f"golden, book_ticker {format_match(matched, compared)}" in page.text
    gaps = rows(built, tables.GAPS)
    assert f"gaps {len(gaps)}: " in page.text
    for gap in gaps:
        assert gap["kind"] in page.text
        assert f"{gap['source_file']}:{gap['source_row']}" in page.text
    for row in (row for row in rows(built, FIDELITY) if row["metric"] == "match" and row["compared"] > 0):
        assert f"{row['kind']} {row['compared']:,} {row['matched']:,}" in page.text


def test_match_that_is_not_whole_never_reads_as_whole():
    assert format_match(6491, 6493) == "6,491 of 6,493 equal (99.9692 %)"
    assert format_match(10**9 - 1, 10**9) == "999,999,999 of 1,000,000,000 equal (99.9999 %)"
    assert format_match(5, 5) == "5 of 5 equal (100.0000 %)"


def test_first_divergence_is_shown_with_both_sides_as_exact_decimals(built, shown):
    page, text, _ = shown
    first = min(
        rows(built, tables.MISMATCHES_DECIMAL), key=lambda row: (row["hour"], row["epoch"], row["sequence"])
    )
    assert f"update {first['sequence']}" in page.text
    at = first["level"] - 1
    for name in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"):
        for value in (first[name][at], first[f"golden_{name}"][at]):
            assert f"{value.normalize():f}" in page.text
    assert 'class="n hit"' in text


def test_timeline_is_there_without_javascript(shown):
    _, text, _ = shown
    assert text.count('role="img" aria-label="BINANCE') == 2
    assert re.search(r'<rect class="s-verified" [^>]*><title>BTC-USDT [^<]*verified', text)
    assert re.search(
        r'<rect class="s-gap[^>]*><title>ETH-USDT sequence_gap at [^<]*expected \d+, found \d+', text
    )


def test_nothing_is_fetched_from_anywhere(shown):
    page, text, _ = shown
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")
    outside = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "http:" not in outside and "https:" not in outside and "url(" not in outside
    assert [script.startswith("/**\n* plotly.js") for script in page.scripts] == [False, True, False]


def test_policy_lets_only_the_two_scripts_run(shown):
    page, _, _ = shown
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in page.scripts[1:]
    ]
    assert policy.startswith("default-src 'none'")
    assert policy.endswith("script-src " + " ".join(f"'sha256-{one}'" for one in hashes))


def test_ids_are_distinct_and_every_chart_has_its_figure(shown):
    page, _, _ = shown
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    charts = [attributes for _, attributes in page.tags if attributes.get("class") == "chart"]
    assert {chart["id"] for chart in charts} == set(json.loads(page.scripts[0]))
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")


def test_hostile_text_stays_text(copied, tmp_path):
    gap = rows(copied, tables.GAPS)[0] | {"source_file": HOSTILE, "kind": HOSTILE, "resolved_by": HOSTILE}
    verdict = rows(copied, tables.VERDICTS)[0] | {"reasons": HOSTILE, "verdict": "failed", "hour": 0}
    of_kind = [
        metric("match", kind=HOSTILE, compared=9, matched=8, hour=row["hour"])
        for row in rows(copied, tables.VERDICTS)
        if row["symbol"] == "BTC-USDT"
    ]
    for _ in range(2):
        publish(copied, {tables.GAPS: [gap], tables.VERDICTS: [verdict], FIDELITY: of_kind})
    page, text, _ = page_of(copied, tmp_path)
    assert len(page.scripts) == 3
    assert "img" not in {tag for tag, _ in page.tags}
    assert HOSTILE not in text
    assert HOSTILE in page.text
    figures = page.scripts[0]
    assert not set("<>&") & set(figures)
    named = [trace.get("name", "") for figure in json.loads(figures).values() for trace in figure["data"]]
    assert f"BINANCE BTC-USDT {html.escape(HOSTILE, quote=False)}" in named
    assert not any("<" in name for name in named)


def test_statistics_are_those_of_the_tables(copied, tmp_path):
    rng = np.random.default_rng(0)
    tests = [
        metric(
            "spread", 1, statistic=0.125, p_value=0.0312, adjusted_p=0.0624, distance=0.0123, verdict="passed"
        ),
        metric("ofi", 1, statistic=0.5, p_value=1e-9, adjusted_p=7e-9, distance=3.25, verdict="failed"),
    ]
    tests[0] |= {"value": 0.011, "golden_value": 0.012, "low": -0.002, "high": 0.003}
    told = {"return_tail_alpha": 7.5, "garch_omega": 0.5, "garch_alpha": 0.1, "garch_beta": 0.8}
    told = [metric(name, value=value, golden_value=3.0, verdict="reported") for name, value in told.items()]
    samples = [
        {name: row[name] for name in ("exchange", "symbol", "hour", "kind", "metric", "level")}
        | {"rebuilt": rng.normal(size=50).tolist(), "golden": [*rng.normal(size=49).tolist(), np.nan]}
        for row in tests
    ]
    publish(copied, {FIDELITY: tests + told, tables.SAMPLES: samples}, mode="overwrite")
    page, _, _ = page_of(copied, tmp_path, symbols=["BTC-USDT"])
    assert "spread L1 150 0.011 0.012 0.125 0.0312 0.0624 0.0123 -0.002 to 0.003 passed" in page.text
    assert "ofi L1 150 – – 0.5 1e-09 7e-09 3.25 – failed" in page.text
    assert (
        "ofi L1 of BINANCE BTC-USDT, book_ticker, all hours: adjusted p 7e-09, D 0.5 ( failed )" in page.text
    )
    assert "return_tail_alpha 7.5 3 4.5 outside the expected range" in page.text
    assert "expected in [2, 5]" in page.text
    assert "omega 0.5 bp², alpha 0.1, beta 0.8" in page.text
    charts = [attributes["aria-label"] for _, attributes in page.tags if attributes.get("class") == "chart"]
    assert sum("cumulative distribution and quantiles" in chart for chart in charts) == 2


def test_verdicts_on_all_hours_together_are_no_symbol_hours(copied, tmp_path):
    verdict = next(row for row in rows(copied, tables.VERDICTS) if row["suite"] == "fidelity")
    failed = {"symbol": "BTC-USDT", "hour": -1, "verdict": "failed", "reasons": "p too small"}
    publish(copied, {tables.VERDICTS: [verdict | failed]})
    page, _, _ = page_of(copied, tmp_path)
    assert (
        "1 of 2 symbol-hours failed at least one suite, and 1 symbols over all their hours together."
        in page.text
    )
    assert "1 failed, 1 passed; all hours of a symbol together: 1 failed" in page.text
    assert "fidelity of BINANCE BTC-USDT all hours: p too small" in page.text


def test_without_golden_samples_nothing_reads_as_passed(copied, tmp_path):
    verdicts = [
        row | ({"verdict": "none", "reasons": "", "counts": []} if row["suite"] == "fidelity" else {})
        for row in rows(copied, tables.VERDICTS)
    ]
    nothing = [metric("match", compared=0, matched=0, verdict="none")]
    publish(copied, {tables.VERDICTS: verdicts, FIDELITY: nothing}, mode="overwrite")
    page, _, told = page_of(copied, tmp_path)
    assert told["verdicts"]["fidelity"] == "none"
    assert "fidelity none 2 none" in page.text
    assert page.text.count("no golden samples: nothing to compare with") == 4
    assert "Nothing to judge by: fidelity, which is not a pass" in page.text


def test_runs_are_compared_and_drifts_are_reported(copied, tmp_path):
    def measured(matched: int, d: float) -> dict[Table, list[dict[str, Any]]]:
        match = metric("match", matched=matched, compared=1000)
        return {FIDELITY: [match, metric("spread", 1, statistic=d, p_value=0.5, adjusted_p=1.0)]}

    for number in range(6):
        publish(copied, measured(990 + number % 2, 0.1 + number % 3 / 1000))
    last = publish(copied, measured(900, 0.101))
    page, _, told = page_of(copied, tmp_path)
    assert told["drifts"] == ["BINANCE BTC-USDT book_ticker match: 0.9, the median of 7 runs before is 0.991"]
    assert re.search(f"{last} BINANCE BTC-USDT book_ticker match 0.9 0.99", page.text)
    assert "spread L1 D" not in page.text
    figures = json.loads(page.scripts[0]).values()
    rings = [
        trace["marker"]["line"]["width"] for figure in figures for trace in figure["data"] if "text" in trace
    ]
    assert sum(width.count(3) for width in rings if isinstance(width, list)) == 1
    since, _, _ = page_of(copied, tmp_path, since=last)
    assert f"1 of {len(rows(copied, tables.RUNS))} runs" in since.text
    assert "No run started since then" in page_of(copied, tmp_path, since="2999-01-01")[0].text


def test_drift_is_far_from_at_least_five_earlier_values():
    assert find_drifts(np.array([1.0, 1, 1, 1, 9]))[0].tolist() == [False] * 5
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95, 1.4, 1.0, 3.0])
    assert find_drifts(values)[0].tolist() == [False] * 7 + [True]


def test_symbols_are_bounded_named_and_chosen(built, tmp_path, monkeypatch):
    monkeypatch.setattr("deltabook.jobs.report.page.SYMBOLS", 1)
    page, _, told = page_of(built, tmp_path)
    assert (len(told["symbols"]), told["symbols_left_out"]) == (1, 1)
    left_out = next(
        symbol for symbol in ("BTC-USDT", "ETH-USDT") if f"BINANCE {symbol}" not in told["symbols"]
    )
    assert f"Left out: BINANCE {left_out}" in page.text
    assert f"deltabook report --symbol {left_out}" in page.text
    assert page_of(built, tmp_path, symbols=[left_out])[2]["symbols"] == [f"BINANCE {left_out}"]
    with pytest.raises(WarehouseError, match=r"no DOGE-USDT in .*; there are: BTC-USDT, ETH-USDT"):
        page_of(built, tmp_path, symbols=["DOGE-USDT"])


def test_period_limits_the_books_that_are_drawn(built, tmp_path):
    times = [row["order_time"] for row in rows(built, tables.BOOKS) if row["symbol"] == "BTC-USDT"]
    middle = (min(times) + max(times)) // 2
    page, _, _ = page_of(built, tmp_path, symbols=["BTC-USDT"], period=(middle, None))
    count = sum(middle <= time for time in times)
    assert f"{count:,} rows of books" in page.text and "asked for: from" in page.text
    page, _, _ = page_of(built, tmp_path, symbols=["BTC-USDT"], period=(max(times) + 1, None))
    assert "No rows of books from" in page.text


def test_depth_map_is_a_band_around_the_mid(built):
    stored = TableReader(built, require_published(built))
    instrument = next(row for row in stored.rows(tables.INSTRUMENTS) if row["symbol"] == "BTC-USDT")
    books = read_books(list_data_files(stored, tables.BOOKS)[BTC], instrument)
    mids = books.column_mids
    known = np.isfinite(mids)
    for levels in (2, 10):
        depth = measure_depth(books, levels)
        sides = (books.bid_prices, books.ask_prices)
        band = np.median(np.concatenate([np.abs(side[:, levels - 1] - mids)[known] for side in sides]))
        assert depth.is_relative == (np.ptp(mids[known]) > 2 * band)
        if depth.is_relative:
            assert (-depth.low, depth.high) == pytest.approx((band, band), rel=0.5)
        else:
            assert depth.low == pytest.approx(mids[known].min() - band, rel=1e-4)
        assert depth.sizes.sum() > 0


@pytest.mark.parametrize("name", ["depth.html", "depth.png", "depth.svg"])
def test_plot_writes_a_page_or_an_image(built, tmp_path, name):
    if not name.endswith(".html"):
        pytest.importorskip("matplotlib")
    summary = write_plot(built, "BTC-USDT", tmp_path / "new" / name)
    start = (tmp_path / "new" / name).read_bytes()[:100]
    assert {"html": b"<html", "png": b"\x89PNG", "svg": b"<?xml"}[name.split(".")[1]] in start
    assert summary["bytes"] > 10_000


def test_depth_figure_has_plain_colours_and_a_title(built):
    figure = depth_figure(built, "ETH-USDT", levels=5).to_plotly_json()
    assert figure["data"][0]["type"] == "heatmap" and "@" not in json.dumps(figure["layout"])
    assert figure["layout"]["title"]["text"].startswith("BINANCE ETH-USDT, ")


def test_plot_without_matplotlib_or_books_says_what_to_do(built, tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"expected a file that ends in \.html, \.png"):
        write_plot(built, "BTC-USDT", tmp_path / "depth.gif")
    with pytest.raises(WarehouseError, match="no book with both sides in that time: its books run from"):
        write_plot(built, "BTC-USDT", tmp_path / "depth.html", period=(None, 1))
    monkeypatch.setitem(sys.modules, "matplotlib.axes", None)
    monkeypatch.delitem(sys.modules, "deltabook.jobs.report.depth_image", raising=False)
    with pytest.raises(SettingsError, match=r"pip install 'deltabook\[plot\]'"):
        write_plot(built, "BTC-USDT", tmp_path / "depth.png")
    assert not list(tmp_path.iterdir())


def test_published_table_reports_or_leaves_out_failed_chunks(built):
    with pytest.warns(FailedChunksWarning, match="1 chunks of the warehouse failed validation"):
        count = published_table(built, "events_decimal").count_rows()
    assert published_table(built, "events_decimal", exclude_failed=True).count_rows() == 0 < count
    scaled = published_table(built, "events", exclude_failed=True)
    assert set(scaled.to_table(columns=["symbol"])["symbol"].to_pylist()) == {"BTC-USDT"}


def test_wrong_time_and_empty_warehouse_are_reported(built, tmp_path):
    with pytest.raises(SettingsError, match="expected ISO 8601"):
        write_report(built, tmp_path / "r.html", since="yesterday")
    with pytest.raises(WarehouseError, match="is empty"):
        write_report(tmp_path / "nothing", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_what_was_only_ingested_has_no_books_and_says_so(spark, deltabook, tmp_path):
    taken = deltabook(
        "ingest", "binance", write(tmp_path / "btc.gz", simulated_lines()), *into(tmp_path / "w")
    )
    assert taken.exit_status == 0, taken.said
    page, _, told = page_of(tmp_path / "w", tmp_path)
    assert told["verdicts"] == {"raw": "passed", "events": "none", "books": "none", "fidelity": "none"}
    assert page.text.count("No books yet: deltabook reconstruct builds them.") == 2
    assert "Nothing to judge by: events, books, fidelity, which is not a pass" in page.text


def test_same_warehouse_gives_the_same_page(built, shown, tmp_path):
    assert page_of(built, tmp_path)[1] == shown[1]


def test_neither_spark_nor_great_expectations_is_imported():
    check = "import sys, deltabook.jobs.report; print({'pyspark', 'great_expectations'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize("key", [BTC, ETH], ids=["scaled", "decimals"])
def test_series_are_those_of_every_row(built, key):
    stored = TableReader(built, require_published(built))
    instrument = next(row for row in stored.rows(tables.INSTRUMENTS) if row["symbol"] == key[1])
    assert instrument["is_decimal"] == (key is ETH)
    table = tables.form_of(tables.BOOKS, instrument["is_decimal"])
    found = [row for row in rows(built, table) if row["symbol"] == key[1]]
    found = sorted(found, key=lambda row: (row["order_time"], row["sequence"]))
    books = read_books(list_data_files(stored, table)[key], instrument)
    unit = [
        10.0 ** (0 if instrument["is_decimal"] else instrument[name])
        for name in ("price_scale", "size_scale")
    ]
    mids, flow, last = {}, {}, {}
    for row in found:
        second = row["order_time"] // NANOSECONDS_PER_SECOND
        if row["bid_prices"] and row["ask_prices"]:
            mids[second] = (float(row["bid_prices"][0]) + float(row["ask_prices"][0])) / 2 / unit[0]
        flow[second] = flow.get(second, 0) + (float(row["ofi"][0]) / unit[1] if row["ofi"] else 0)
        last[(row["order_time"] - found[0]["order_time"]) // books.grid.step] = row
    assert books.rows == len(found)
    for at, second in enumerate(books.seconds.tolist()):
        assert books.flow[at] == pytest.approx(flow.get(second, 0))
        assert second not in mids or books.mids[at] == pytest.approx(mids[second])
    for column, row in last.items():
        own = [float(price) / unit[0] for price in row["bid_prices"][:20]]
        assert books.bid_prices[column][: len(own)].tolist() == pytest.approx(own)
        assert np.isnan(books.bid_prices[column][len(own) :]).all()
        assert row["status"] != "suspect" or books.is_suspect[column]
    events = tables.form_of(tables.EVENTS, instrument["is_decimal"])
    trades = read_trades(list_data_files(stored, events)[key], instrument)
    own = [row for row in rows(built, events) if row["symbol"] == key[1] and row["event_type"] == "trade"]
    largest = sorted((row["data"]["size"] for row in own), reverse=True)[:TRADES]
    assert trades.count == len(own) > TRADES == len(trades.times)
    assert sorted(trades.sizes, reverse=True) == pytest.approx([float(size) / unit[1] for size in largest])
    known = {(row["order_time"], float(row["data"]["price"]) / unit[0], row["data"]["side"]) for row in own}
    sides = np.where(trades.is_buy, "buy", "sell").tolist()
    assert set(zip(trades.times.tolist(), trades.prices.tolist(), sides, strict=True)) <= known


def test_grid_leaves_long_pauses_out():
    files = [
        DataFile("a", 1, 0, HOUR),
        DataFile("b", 1, HOUR + 5, 2 * HOUR),
        DataFile("c", 1, 100 * HOUR, 101 * HOUR),
    ]
    grid = build_time_grid(files)
    assert grid.starts.tolist() == [0, 100 * HOUR]
    assert grid.count <= COLUMNS + 2
    times = np.array([0, HOUR, 2 * HOUR, 50 * HOUR, 100 * HOUR, 101 * HOUR])
    steps = grid.steps(times)
    assert steps.tolist() == sorted(steps.tolist())
    assert steps[2] == steps[3] == grid.first[1] - 1
    assert (grid.times()[steps] <= times).all()
    axis = _Axis(grid.starts, grid.ends)
    assert (axis.position(0), axis.position(101 * HOUR)) == (0, pytest.approx(1000))


def test_volatility_follows_the_recursion_and_restarts_after_a_pause(built):
    stored = TableReader(built, require_published(built))
    instrument = next(row for row in stored.rows(tables.INSTRUMENTS) if row["symbol"] == "BTC-USDT")
    books = read_books(list_data_files(stored, tables.BOOKS)[BTC], instrument)
    returns = books.returns()
    omega, alpha, beta = 0.2, 0.15, 0.7
    variance = np.mean(returns**2)
    expected = []
    for one in returns.tolist():
        expected.append(np.sqrt(variance))
        variance = omega + alpha * one**2 + beta * variance
    assert np.isfinite(returns).all()
    assert conditional_volatility(books, (omega, alpha, beta)).tolist() == pytest.approx(expected)
    books.mids[5:7] = np.nan
    found = conditional_volatility(books, (omega, alpha, beta))
    assert np.isnan(found[4:7]).all() and np.isfinite(found[7:]).all()


def test_figures_are_what_plotly_knows(shown):
    import plotly.graph_objects as go

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items() if name != "packed"}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return "#123456" if isinstance(value, str) and value.startswith("@") else value

    page, _, _ = shown
    drawn = list(json.loads(page.scripts[0]).values())
    line = {"name": "a", "runs": ["x", "y"], "values": [1.0, 2.0], "is_drift": [False, True]}
    drawn.append(draw_over_runs([line], {"x": "2024-01-01T00:00:00Z", "y": "2024-01-02T00:00:00Z"}, "D"))
    for figure in drawn:
        go.Figure(plain(figure))


class Chromium:
    """Headless Chromium over its debugging pipe: no port, and no driver to install."""

    def __init__(self, program: str, profile: Path):
        inward, outward = os.pipe(), os.pipe()
        wanted = (
            *("headless=new", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "hide-scrollbars"),
            *("disable-background-networking", "disable-component-update", "disable-sync"),
            *("disable-dev-shm-usage", "remote-debugging-pipe", f"user-data-dir={profile}"),
        )
        # The browser reads descriptor 3 and writes 4; sh puts ours there.
        command = f'exec "$0" "$@" 3<&{inward[0]} 4>&{outward[1]}'
        flags = [f"--{flag}" for flag in wanted]
        self.process = subprocess.Popen(
            ["bash", "-c", command, program, *flags],
            pass_fds=(inward[0], outward[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(inward[0])
        os.close(outward[1])
        self.writes, self.reads = os.fdopen(inward[1], "wb", 0), os.fdopen(outward[0], "rb")
        self.rest, self.number, self.session, self.events = b"", 0, {}, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        found = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": found["sessionId"]}

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        asked = {"id": self.number, "method": method, "params": parameters} | self.session
        self.writes.write(json.dumps(asked).encode() + b"\0")
        while True:
            while b"\0" not in self.rest:
                read = self.reads.read1(1 << 20)
                assert read, "the browser has ended"
                self.rest += read
            line, self.rest = self.rest.split(b"\0", 1)
            message = json.loads(line)
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def value(self, expression: str) -> Any:
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def close(self) -> None:
        self.session = {}
        self.ask("Browser.close")
        self.process.wait(20)
        self.writes.close()
        self.reads.close()


@pytest.fixture
def chromium(tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome", "chrome", "chromium-headless-shell")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium found: apt-get install chromium, or name one in the environment's CHROMIUM")
    browser = Chromium(program, tmp_path / "profile")
    yield browser
    browser.close()


def test_browser_draws_every_chart_without_a_network_or_an_error(built, shown, chromium, tmp_path):
    told = shown[2]
    for domain in ("Page", "Runtime", "Log", "Network"):
        chromium.ask(f"{domain}.enable")
    unreachable = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    chromium.ask("Network.emulateNetworkConditions", offline=True, **unreachable)
    for width, theme in ((1280, "light"), (390, "dark")):
        feature = {"name": "prefers-color-scheme", "value": theme}
        chromium.ask("Emulation.setEmulatedMedia", features=[feature])
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        chromium.ask("Emulation.setDeviceMetricsOverride", **size)
        chromium.ask("Page.navigate", url=Path(told["report"]).as_uri())
        until = time.monotonic() + 40
        while chromium.value("document.documentElement.dataset.charts") != "drawn":
            assert time.monotonic() < until, "the charts were not drawn"
            time.sleep(0.05)
        count = "[...document.querySelectorAll('.chart')].filter((one) => {}).length"
        charts = chromium.value(count.format("true"))
        assert charts == chromium.value(count.format("one.querySelector('svg, canvas')")) > 5
        assert chromium.value(count.format("one.querySelector('.heatmaplayer image')")) == 2
        assert chromium.value("document.documentElement.scrollWidth") == width
        ink = chromium.value("getComputedStyle(document.querySelector('.chart .xtick text')).fill")
        assert ink == {"light": "rgb(27, 36, 48)", "dark": "rgb(228, 232, 238)"}[theme]
        height = min(chromium.value("document.documentElement.scrollHeight"), 12_000)
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = chromium.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
        (tmp_path / f"{width}-{theme}.png").write_bytes(base64.b64decode(shot))
    printed = base64.b64decode(chromium.ask("Page.printToPDF", preferCSSPageSize=True)["data"])
    assert printed.startswith(b"%PDF")
    (tmp_path / "report.pdf").write_bytes(printed)
    wrong = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
    assert [event for event in chromium.events if event["method"] in wrong] == []
    requests = [
        event["params"] for event in chromium.events if event["method"] == "Network.requestWillBeSent"
    ]
    asked = {one["request"]["url"].split(":")[0] for one in requests}
    assert asked <= {"file", "data"}
