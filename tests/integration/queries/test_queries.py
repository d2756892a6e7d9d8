"""SQL queries: all examples of the documents run, and functions and views agree with plain loops."""

from __future__ import annotations

import io
import random
import re
from bisect import bisect_left
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from faulted import build, rows
from places import PROJECT
from typer.testing import CliRunner

from deltabook.jobs.cli.commands import app
from deltabook.jobs.lookup.book import read_book
from deltabook.jobs.queries.sql import prepare_query, print_rows
from deltabook.jobs.runtime.settings import load_settings
from deltabook.jobs.tables.published import published_table
from deltabook.jobs.tools.demo import write_captures
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas import tables
from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.names import EventType

pytestmark = pytest.mark.spark
PAGE = (PROJECT / "jobs" / "queries" / "README.md").read_text()
EXAMPLES = re.findall(r"```sql\n(.*?)\n```\n\n```\n(.*?)\n```", PAGE, re.DOTALL)
SNIPPETS = re.findall(r"```python\n(.*?)\n```", PAGE, re.DOTALL)
SCRIPTS = [
    script
    for page in ("README.md", "jobs/replay/README.md")
    for script in re.findall(
        r"```python\n(.*?)\n```\n\n```\n(.*?)\n```", (PROJECT / page).read_text(), re.DOTALL
    )
]
SYMBOL, SCALE, SECOND = "BTC-USDT", 8, 10**9


@pytest.fixture(scope="module")
def warehouse(spark, tmp_path_factory):
    """The demo's captures, in chunks of a minute: what crosses an hour's end crosses it often."""
    folder = tmp_path_factory.mktemp("queries")
    (settings := folder / "settings.yaml").write_text("chunk: 1m\n")
    run = build("binance", write_captures(folder / "captures"), folder / "w", config=settings)
    assert (run.exit_status, run.summary["symbol_hours"]) == (0, 12), run.said
    return folder / "w"


@pytest.fixture(scope="module")
def ask(spark, warehouse):
    opened = Warehouse(spark, load_settings(None, {"warehouse": warehouse}))
    return lambda text: [row.asDict() for row in prepare_query(opened, text).collect()]


def test_page_has_all_examples():
    assert (len(EXAMPLES), PAGE.count("```sql"), len(SNIPPETS)) == (13, 13, 3)


@pytest.mark.parametrize(("text", "told"), EXAMPLES, ids=[text[-24:] for text, _ in EXAMPLES])
def test_examples_print_what_the_page_shows(spark, warehouse, text, told):
    out = io.StringIO()
    opened = Warehouse(spark, load_settings(None, {"warehouse": warehouse}))
    print_rows(prepare_query(opened, text), "table", out)
    assert [line.rstrip() for line in out.getvalue().splitlines() if line.strip()] == told.splitlines()


@pytest.mark.parametrize("snippet", SNIPPETS, ids=["duckdb", "polars", "pandas"])
def test_other_programs_read_the_same_tables(warehouse, snippet):
    books = rows(warehouse, tables.BOOKS)
    expected = [
        (symbol, max(row["bid_prices"][0] for row in books if row["symbol"] == symbol and row["bid_prices"]))
        for symbol in ("BTC-USDT", "ETH-USDT")
    ]
    told: dict[str, Any] = {}
    exec(snippet.replace("demo/warehouse", str(warehouse)), told)  # a page of this repository
    assert told["found"] == expected


@pytest.mark.parametrize(("script", "told"), SCRIPTS, ids=[script.splitlines()[0] for script, _ in SCRIPTS])
def test_scripts_of_the_documents_print_what_they_show(warehouse, capsys, script, told):
    exec(script.replace("demo/warehouse", str(warehouse)), {})  # a page of this repository
    assert capsys.readouterr().out.rstrip() == told


def test_unknown_table_is_named_in_the_error(warehouse):
    with pytest.raises(WarehouseError, match=r"no table nothing: there are .*books"):
        published_table(warehouse, "nothing")


def test_book_at_equals_the_command_book(ask, warehouse):
    times = [row["order_time"] for row in rows(warehouse, tables.BOOKS) if row["symbol"] == SYMBOL]
    for time in random.Random(3).sample(sorted(times), 3):
        at = f"timestamp_micros({time // 1000 + 1})"
        (found,) = ask(f"SELECT sequence, bid_prices, ask_sizes FROM book_at('{SYMBOL}', {at})")
        ladder = read_book(warehouse, SYMBOL, time + 1000, None)
        assert found["sequence"] == ladder.row["sequence"]
        assert found["bid_prices"] == [price for price, _ in ladder.bids]
        assert found["ask_sizes"] == [size for _, size in ladder.asks]
    assert ask(f"SELECT * FROM book_at('{SYMBOL}', '2024-08-08 00:00:00')") == []
    assert ask("SELECT * FROM book_at('NO-ONE', '2024-08-09 00:00:00')") == []


def reached(prices: list[Decimal], sizes: list[Decimal], wanted: Decimal) -> tuple[int | None, float | None]:
    """Levels and average price of an order, in whole fractions."""
    left, paid = Fraction(wanted), Fraction(0)
    for count, (price, size) in enumerate(zip(prices, sizes, strict=True), 1):
        taken = min(left, Fraction(size))
        left, paid = left - taken, paid + taken * Fraction(price)
        if not left:
            return count, float(paid / Fraction(wanted))
    return None, None


def test_depth_and_average_price_of_an_order(ask):
    draw = random.Random(5)
    cases = []
    for _ in range(40):
        sizes = [Decimal(draw.randrange(1, 9)) / 10 for _ in range(draw.randrange(6))]
        prices = [Decimal(1000 + 3 * level) / 100 for level in range(len(sizes))]
        sums = [*accumulate(sizes)] or [Decimal(1)]
        cases.append((prices, sizes, draw.choice(sums) + draw.choice([0, 0, Decimal("0.05"), 5])))
    listed = ", ".join(
        f"({number}, array({', '.join(f'{one}BD' for one in prices)}), "
        f"array({', '.join(f'{one}BD' for one in sizes)}), {wanted}BD)"
        for number, (prices, sizes, wanted) in enumerate(cases)
        if prices
    )
    found = ask(
        "SELECT number, depth_to_size(sizes, wanted) AS levels, "
        "vwap_to_size(prices, sizes, wanted) AS average "
        f"FROM VALUES {listed} AS cases(number, prices, sizes, wanted)"
    )
    assert len(found) > 25
    assert {row["levels"] for row in found} >= {None, 1, 2, 3}
    for row in found:
        levels, average = reached(*cases[row["number"]])
        assert row["levels"] == levels
        assert row["average"] == (None if average is None else pytest.approx(average, rel=1e-14))


def test_order_flow_is_summed_by_level_and_step(ask, warehouse):
    sums: dict[int, int] = {}
    for row in rows(warehouse, tables.BOOKS):
        if row["symbol"] == SYMBOL:
            step = row["order_time"] // (15 * SECOND) * 15 * SECOND
            sums[step] = sums.get(step, 0) + sum(row["ofi"][:3])
    found = ask(f"SELECT unix_micros(time) AS time, ofi FROM ofi('{SYMBOL}', 3, INTERVAL 15 SECONDS)")
    assert {row["time"] * 1000: row["ofi"].scaleb(SCALE) for row in found} == sums
    assert len(sums) > 15


def trades_of(warehouse: Path) -> list[dict[str, Any]]:
    """Trades in the feed's order, in decimals."""
    found = [row for row in rows(warehouse, tables.EVENTS) if row["event_type"] == EventType.TRADE]
    return [
        row["data"]
        | {"order_time": row["order_time"], "hour": row["hour"]}
        | {name: Decimal(row["data"][name]).scaleb(-SCALE) for name in ("price", "size")}
        for row in sorted(found, key=lambda row: (row["order_time"], row["sequence"]))
        if row["symbol"] == SYMBOL
    ]


@pytest.mark.parametrize(
    ("function", "width"),
    [("tick_bars", 700), ("volume_bars", 20), ("dollar_bars", 10**6), ("time_bars", 20)],
)
def test_bars_equal_those_of_a_plain_loop(ask, warehouse, function, width):
    bars: dict[int, list[dict[str, Any]]] = {}
    before = {"tick_bars": Decimal(0), "volume_bars": Decimal(0), "dollar_bars": Decimal(0)}
    for trade in trades_of(warehouse):
        worth = {"tick_bars": 1, "volume_bars": trade["size"], "dollar_bars": trade["price"] * trade["size"]}
        if function == "time_bars":
            key = trade["order_time"] // (width * SECOND)
        else:
            key = int(before[function] // width)
            before[function] += worth[function]
        bars.setdefault(key, []).append(trade)
    argument = f"INTERVAL {width} SECONDS" if function == "time_bars" else str(width)
    found = ask(f"SELECT * FROM {function}('{SYMBOL}', {argument}) ORDER BY time, open")
    assert len(found) == len(bars) > 10
    for row, (key, trades) in zip(found, sorted(bars.items()), strict=True):
        prices = [trade["price"] for trade in trades]
        assert [row[name] for name in ("open", "high", "low", "close")] == [
            *(prices[0], max(prices), min(prices), prices[-1])
        ]
        assert row["trades"] == len(trades)
        assert (
            row["volume"] == sum(trade["size"] for trade in trades) == row["buy_volume"] + row["sell_volume"]
        )
        assert row["buy_volume"] == sum(trade["size"] for trade in trades if trade["side"] == "buy")
        value = sum(trade["price"] * trade["size"] for trade in trades)
        assert row["vwap"] == pytest.approx(float(value / row["volume"]), rel=1e-12)
        if function == "time_bars":
            assert int(row["time"].timestamp()) == key * width


def test_trades_have_the_book_before_them_across_hours(ask, warehouse):
    books = sorted(
        (row["order_time"], row["epoch"], row["sequence"], row)
        for row in rows(warehouse, tables.BOOKS)
        if row["symbol"] == SYMBOL
    )
    times = [time for time, *_ in books]
    found = {row["trade_id"]: row for row in ask(f"SELECT * FROM trades_with_book WHERE symbol = '{SYMBOL}'")}
    trades = trades_of(warehouse)
    assert len(found) == len(trades) > 10_000
    firsts_of_hours = 0
    for trade in trades:
        row, at = found[trade["trade_id"]], bisect_left(times, trade["order_time"]) - 1
        book = books[at][-1] if at >= 0 else None
        assert row["book_sequence"] == (book["sequence"] if book else -1)
        if book and book["bid_prices"]:
            assert row["bid_price"] == Decimal(book["bid_prices"][0]).scaleb(-SCALE)
            assert row["ask_size"] == Decimal(book["ask_sizes"][0]).scaleb(-SCALE)
            firsts_of_hours += book["hour"] != trade["hour"]
    assert firsts_of_hours > 4


def test_wide_book_has_the_levels_of_the_table(ask, warehouse):
    (row,) = ask(f"SELECT * FROM book_wide WHERE symbol = '{SYMBOL}' ORDER BY order_time DESC LIMIT 1")
    books = [one for one in rows(warehouse, tables.BOOKS) if one["symbol"] == SYMBOL]
    last = max(books, key=lambda one: (one["order_time"], one["sequence"]))
    for side in ("bid", "ask"):
        for level in range(20):
            for what in ("price", "size"):
                expected = Decimal(last[f"{side}_{what}s"][level]).scaleb(-SCALE)
                assert row[f"{side}_{level}_{what}"] == expected


def test_all_relations_can_be_queried_together(ask):
    shown = {row["viewName"] for row in ask("SHOW VIEWS")}
    assert shown >= {*tables.TABLES, "book", "book_wide", "features", "openings", "trades_with_book"}
    assert {row["function"] for row in ask("SHOW USER FUNCTIONS")} >= {"book_at", "ofi", "vwap_to_size"}


def test_statement_together_with_serve_is_refused(deltabook, warehouse):
    told = deltabook("sql", "SELECT 1", "--serve", "--warehouse", warehouse)
    assert (told.exit_status, told.stderr) == (2, "deltabook: sql: pass a statement or --serve, not both\n")


def test_statements_of_standard_input_run_one_after_another(spark, warehouse):
    typed = "SELECT 1 AS one;\n\nSELECT count(*) > 5000 AS many\nFROM book;\nSELECT 3 AS three"
    arguments = ["sql", "--warehouse", str(warehouse), "--format", "json", "--json"]
    told = CliRunner().invoke(app, arguments, input=typed)
    assert told.stdout.splitlines() == [
        '{"one": 1}',
        '{"many": true}',
        '{"three": 3}',
        '{"exit_status": 0, "rows": 3}',
    ]
    wrong = CliRunner().invoke(app, arguments, input="SELECT nothing FROM nowhere;\nSELECT 1;")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert "nowhere" in wrong.stderr
