"""`deltabook.open` reads all rows with exact numbers, selects time ranges, and warns of failed chunks."""

from __future__ import annotations

import tarfile
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from places import TESTS

import deltabook
from deltabook import FailedChunksWarning, SettingsError, WarehouseError, WarehouseReader
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.columns import Table
from deltabook.schemas.tables import BOOKS, EVENTS, TABLES

SYMBOL, SCALE = "BTC-USDT", 8
SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse of two instruments, with a gap and two chunks that failed."""
    target = tmp_path_factory.mktemp("api")
    with tarfile.open(TESTS / "data" / "warehouse.tar.xz") as archive:
        archive.extractall(target, filter="data")
    return target / "w"


@pytest.fixture
def warehouse(folder: Path) -> Iterator[WarehouseReader]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FailedChunksWarning)
        yield deltabook.open(folder)


def stored_rows(folder: Path, table: Table, symbol: str = SYMBOL) -> list[dict[str, Any]]:
    rows = TableReader(folder, require_published(folder)).rows(table)
    return sorted((row for row in rows if row["symbol"] == symbol), key=lambda row: row["hour"])


def as_decimals(numbers: list[int]) -> list[Decimal]:
    return [Decimal(number).scaleb(-SCALE) for number in numbers]


def test_books_have_the_stored_rows_as_exact_decimals(warehouse: WarehouseReader, folder: Path) -> None:
    shown, stored = warehouse.books(SYMBOL).to_pylist(), stored_rows(folder, BOOKS)
    assert len(shown) == len(stored) == 51
    for row, expected in zip(shown, stored, strict=True):
        for side in SIDES:
            assert row[side] == as_decimals(expected[side])
        assert row["ofi"] == as_decimals(expected["ofi"])
        assert row["buy_volume"] == Decimal(expected["buy_volume"]).scaleb(-SCALE)
        assert row["bid_price"] == (row["bid_prices"][0] if row["bid_prices"] else None)
        assert row["ask_size"] == (row["ask_sizes"][0] if row["ask_sizes"] else None)
        assert row["time"].value == expected["timestamp"]
        same = ("exchange", "symbol", "status", "sequence", "order_time", "epoch", "hour", "cadence")
        assert [row[name] for name in same] == [expected[name] for name in same]


def test_books_as_integers_are_those_that_are_stored(warehouse: WarehouseReader, folder: Path) -> None:
    shown = warehouse.books(SYMBOL, columns=[*SIDES, "buy_volume"], decimals=False).to_pylist()
    assert shown == [
        {name: row[name] for name in (*SIDES, "buy_volume")} for row in stored_rows(folder, BOOKS)
    ]


def test_trades_have_the_stored_rows(warehouse: WarehouseReader, folder: Path) -> None:
    stored = [row for row in stored_rows(folder, EVENTS) if row["event_type"] == "trade"]
    shown = warehouse.trades(SYMBOL).to_pylist()
    assert len(shown) == len(stored) == 325
    for row, expected in zip(shown, stored, strict=True):
        data = expected["data"]
        assert (row["trade_id"], row["side"]) == (data["trade_id"], data["side"])
        assert [row["price"], row["size"]] == as_decimals([data["price"], data["size"]])


def test_prices_that_a_book_update_lacks_are_null(warehouse: WarehouseReader) -> None:
    rows = warehouse.table("events", SYMBOL, columns=["event_type", "data"]).to_pylist()
    assert {row["event_type"] for row in rows if row["data"]["price"] is None} == {"book_update"}
    as_integers = warehouse.table("events", SYMBOL, columns=["data"], decimals=False).to_pylist()
    assert -1 in {row["data"]["price"] for row in as_integers}


@pytest.mark.parametrize("name", [name for name in TABLES if not name.endswith("_decimal")])
def test_every_table_has_all_its_rows(warehouse: WarehouseReader, folder: Path, name: str) -> None:
    result = warehouse.table(name)
    reader = TableReader(folder, require_published(folder))
    assert len(result) == len(reader.rows(TABLES[name]))
    assert result.column_names == TABLES[name].names


def test_start_is_inside_and_end_is_not(warehouse: WarehouseReader, folder: Path) -> None:
    times = [row["order_time"] for row in stored_rows(folder, BOOKS)]
    start, end = times[10], times[30]
    expected = [time for time in times if start <= time < end]
    shown = warehouse.books(SYMBOL, start, end, ["order_time"])["order_time"].to_pylist()
    assert shown == expected
    assert start in shown
    assert end not in shown


def test_times_may_be_text_datetimes_or_integers(warehouse: WarehouseReader, folder: Path) -> None:
    start = 1723161258 * 10**9
    moment = datetime.fromtimestamp(start // 10**9, UTC)
    zone = moment.astimezone(datetime.now(UTC).astimezone().tzinfo)
    forms = [
        start,
        moment.isoformat(),
        moment.replace(tzinfo=None),
        moment,
        zone,
        pd.Timestamp(start, tz="UTC"),
    ]
    counts = {len(warehouse.books(SYMBOL, form, moment + timedelta(seconds=2))) for form in forms}
    stored = stored_rows(folder, BOOKS)
    assert counts == {sum(start <= row["order_time"] < start + 2 * 10**9 for row in stored)}
    assert counts != {0}


def test_failed_chunks_are_shown_and_named_in_a_warning(folder: Path) -> None:
    warehouse = deltabook.open(folder)
    with pytest.warns(
        FailedChunksWarning, match=r"2 chunks that failed .* 2024-08-08T23:54:18Z \(fidelity\)"
    ) as seen:
        result = warehouse.books(SYMBOL)
    assert seen[0].filename == __file__
    assert [chunk.hour for chunk in result.failed_chunks] == [1723161258 * 10**9, 1723161260 * 10**9]
    assert {chunk.hour for chunk in result.failed_chunks} < set(result["hour"].to_pylist())
    assert list(result.failed_chunks) == warehouse.failed_chunks(SYMBOL)


def test_failed_chunks_can_be_left_out_and_are_still_listed(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = deltabook.open(folder).books(SYMBOL, columns=["hour"], include_failed=False)
    assert len(result.failed_chunks) == 2
    assert not {chunk.hour for chunk in result.failed_chunks} & set(result["hour"].to_pylist())


def test_a_range_without_failed_chunks_gives_no_warning(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = deltabook.open(folder).books(SYMBOL, end=1723161257 * 10**9)
    assert len(result) > 0
    assert result.failed_chunks == ()


@pytest.mark.parametrize("method", ["book_at", "replay"])
def test_books_and_replays_of_failed_chunks_warn(folder: Path, method: str) -> None:
    warehouse = deltabook.open(folder)
    with pytest.warns(FailedChunksWarning, match="2024-08-08T23:54:20Z") as seen:
        getattr(warehouse, method)(SYMBOL)
    assert seen[0].filename == __file__


def test_book_at_is_the_last_row_at_that_time(warehouse: WarehouseReader, folder: Path) -> None:
    row = stored_rows(folder, BOOKS)[20]
    last = [one for one in stored_rows(folder, BOOKS) if one["order_time"] <= row["order_time"]][-1]
    book = warehouse.book_at(SYMBOL, row["order_time"])
    assert [price for price, _ in book.bids] == as_decimals(last["bid_prices"])


def test_replay_starts_where_it_is_asked_to(warehouse: WarehouseReader) -> None:
    start = "2024-08-08T23:54:16Z"
    seen = next(iter(warehouse.replay(SYMBOL, start, clock="exchange")))
    assert seen.time >= 1723161256 * 10**9


def test_results_convert_to_other_libraries(warehouse: WarehouseReader) -> None:
    import polars as pl

    result = warehouse.trades(SYMBOL, columns=["time", "price"])
    assert result.to_pandas()["price"].tolist() == result["price"].to_pylist()
    assert result.to_polars()["price"].to_list() == result["price"].to_pylist()
    assert pl.DataFrame(result).height == len(result) == result.to_arrow().num_rows
    assert repr(result).startswith("<Result: 325 rows of time, price; failed chunks: 2")


def test_columns_come_in_the_wanted_order(warehouse: WarehouseReader) -> None:
    result = warehouse.books(SYMBOL, columns=["ask_price", "time", "bid_price"])
    assert result.column_names == ["ask_price", "time", "bid_price"]


def test_an_empty_selection_has_the_same_types(warehouse: WarehouseReader) -> None:
    none, some = warehouse.books(SYMBOL, 0, 1), warehouse.books(SYMBOL)
    assert len(none) == 0
    assert none.table.schema.equals(some.table.schema)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda one: one.books(SYMBOL, columns=["nothing"]),
            "no column 'nothing' in books: expected some of",
        ),
        (lambda one: one.books(SYMBOL, columns="time"), "expected a list of names"),
        (lambda one: one.books(SYMBOL, "soon"), "time 'soon': expected ISO 8601"),
        (lambda one: one.books(SYMBOL, 1.5), "time 1.5: expected ns since 1970"),
        (lambda one: one.books(SYMBOL, 2, 1), "end 1 is before start 2"),
        (lambda one: one.table("nothing"), "no table 'nothing': expected one of events, books"),
        (lambda one: one.table("runs", SYMBOL), "table runs has no column symbol"),
        (lambda one: one.table("files", start=1), "table files has no time"),
    ],
)
def test_wrong_arguments_are_named(warehouse: WarehouseReader, call: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        call(warehouse)


def test_an_unknown_symbol_names_those_that_exist(warehouse: WarehouseReader) -> None:
    with pytest.raises(WarehouseError, match="BTC-USDT"):
        warehouse.books("BTC-USD")


def test_an_empty_folder_is_no_warehouse(tmp_path: Path) -> None:
    with pytest.raises(WarehouseError, match="is empty"):
        deltabook.open(tmp_path)


def test_status_is_that_of_the_command(warehouse: WarehouseReader) -> None:
    status = warehouse.status()
    assert [one["symbol"] for one in status["instruments"]] == ["BTC-USDT", "ETH-USDT"]


@pytest.mark.parametrize("is_former_name", [False, True])
def test_an_environment_steps_through_the_replay(folder: Path, is_former_name: bool) -> None:
    import gymnasium

    arguments: dict[str, Any] = {"symbol": SYMBOL, "step": 10**8, "length": 10**9}
    if is_former_name:
        name = "deltabook.jobs.environment:deltabook/Book-v0"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            environment = gymnasium.make(name, warehouse=folder, **arguments)
    else:
        environment = deltabook.make_env(folder, start="2024-08-08T23:54:15Z", **arguments)
    environment.reset(seed=1)
    observation, reward, *_ = environment.step(2)
    assert observation.shape == environment.observation_space.shape
    assert isinstance(reward, float)


@pytest.mark.spark
def test_results_equal_those_of_sql(spark: Any, warehouse: WarehouseReader, folder: Path) -> None:
    from deltabook.jobs.queries.sql import prepare_query
    from deltabook.jobs.runtime.settings import load_settings
    from deltabook.jobs.warehouse.warehouse import Warehouse

    opened = Warehouse(spark, load_settings(None, {"warehouse": folder}))
    for name, result in (("book_all", warehouse.books(SYMBOL)), ("trades_all", warehouse.trades(SYMBOL))):
        columns = [column for column in result.column_names if column != "time"]
        text = f"SELECT {', '.join(columns)} FROM {name} WHERE symbol = '{SYMBOL}'"
        asked = [tuple(row) for row in prepare_query(opened, text).collect()]
        shown = [tuple(row[column] for column in columns) for row in result.to_pylist()]
        assert sorted(map(repr, asked)) == sorted(map(repr, shown))
