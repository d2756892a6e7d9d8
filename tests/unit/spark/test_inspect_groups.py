"""Count the faults in the events and books of a chunk: each count equals a count by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from test_fidelity_groups import START, file_of, no_data

from deltabook.schemas.tables import BOOKS, EVENTS
from deltabook.udfs.spark.inspect_groups import EARLIEST_TIME, inspect_books_group, inspect_events_group

KEY = ("BINANCE", "BTC-USDT", START)


def counts_of_events(root: Path, *events: dict[str, Any]) -> dict[str, int]:
    return counted(inspect_events_group, event_files=file_of(root, EVENTS, list(events)))


def counts_of_books(root: Path, *books: dict[str, Any]) -> dict[str, int]:
    return counted(inspect_books_group, book_files=file_of(root, BOOKS, list(books)))


def counted(function: Any, **files: list[str]) -> dict[str, int]:
    reference = dict(zip(("exchange", "symbol", "hour"), KEY, strict=True)) | files
    (frame,) = function(KEY, iter([pd.DataFrame([reference])]))
    (row,) = frame.to_dict("records")
    assert row["table"] == "verdicts"
    return {name: count for name, count in zip(row["counted"], row["counts"], strict=True) if count}


def update(number: int, **fields: Any) -> dict[str, Any]:
    data = no_data() | {name: fields.pop(name) for name in [*fields] if name in no_data()}
    usual = {"event_type": "book_update", "sequence": number, "source_row": number, "source_file": "a"}
    return usual | {"timestamp": EARLIEST_TIME + number, "order_time": number, "data": data} | fields


def trade(number: int, price: int = 5, size: int = 1, **fields: Any) -> dict[str, Any]:
    return update(number, price=price, size=size, **fields) | {"event_type": "trade"}


def test_clean_events(tmp_path: Path) -> None:
    sides = {"bid_prices": [9, 8], "bid_sizes": [0, 1], "ask_prices": [11], "ask_sizes": [2]}
    found = counts_of_events(tmp_path, trade(1), update(2, **sides), trade(3), update(4))
    assert found == {
        "book_update messages": 2,
        "book_update diffs": 2,
        "trade messages": 2,
        "trade diffs": 2,
        "level_changes": 3,
    }


@pytest.mark.parametrize(
    ("events", "name", "count"),
    [
        ([update(1, bid_prices=[0], bid_sizes=[1])], "out_of_range", 1),
        ([update(1, ask_prices=[-3], ask_sizes=[-1])], "out_of_range", 2),
        ([trade(1, price=0), trade(2, size=0)], "out_of_range", 2),
        ([update(1, damaged=True), update(2)], "damaged", 1),
        ([update(1), update(2, source_row=9), update(3), update(4)], "late", 1),
        ([update(1, source_row=9), update(2, source_row=8), update(3, source_row=7)], "late", 2),
        ([update(1, timestamp=-1), update(2)], "missing", 1),
        ([update(1, timestamp=0), update(2, timestamp=EARLIEST_TIME - 1)], "zero", 2),
        ([update(1), update(2, timestamp=EARLIEST_TIME), update(3)], "regressing", 1),
        ([update(2), update(1, timestamp=EARLIEST_TIME + 2, source_row=3, order_time=2)], "unordered", 1),
        ([update(5, epoch=1), update(6, epoch=0)], "unordered", 1),
        ([update(1, order_time=5), update(2, order_time=4)], "out_of_time", 1),
    ],
)
def test_each_fault_of_events_is_counted_alone(tmp_path: Path, events: Any, name: str, count: int) -> None:
    found = counts_of_events(tmp_path, *events)
    usual = ("messages", "level_changes", "diffs")
    told = {key: value for key, value in found.items() if key.split()[-1] not in usual}
    of_all = ("out_of_range", "damaged", "out_of_time")
    assert told == {name if name in of_all else f"book_update {name}": count}


def test_snapshots_may_come_at_any_time_and_without_one(tmp_path: Path) -> None:
    fetched = update(1, is_snapshot=True, source_row=9, timestamp=-1)
    found = counts_of_events(tmp_path, fetched, update(2), update(3))
    assert found == {"book_update messages": 3, "book_update diffs": 2}


def test_lateness_is_sound_file_by_file_and_stream_by_stream(tmp_path: Path) -> None:
    events = [update(1, source_row=2), update(2, source_row=1, source_file="b"), trade(3, source_row=1)]
    assert not any("late" in name for name in counts_of_events(tmp_path, *events))


def book(number: int, **fields: Any) -> dict[str, Any]:
    sides = {"bid_prices": [9, 8], "bid_sizes": [1, 1], "ask_prices": [11, 12], "ask_sizes": [1, 1]}
    return {"sequence": number, "order_time": number, "status": "verified"} | sides | fields


def test_clean_books(tmp_path: Path) -> None:
    empty = {"bid_prices": [], "bid_sizes": [], "ask_prices": [], "ask_sizes": [], "status": "unseeded"}
    assert counts_of_books(tmp_path, book(1, **empty), book(2)) == {"rows": 2, "unseeded": 1, "verified": 1}


@pytest.mark.parametrize(
    ("books", "name", "count"),
    [
        ([book(1, bid_prices=[8, 9]), book(2, ask_prices=[11, 11])], "not_monotone", 2),
        ([book(1, bid_sizes=[1, 0]), book(2, ask_prices=[-1, 12])], "not_positive", 2),
        ([book(1, order_time=3), book(2, order_time=2), book(3)], "out_of_order", 1),
    ],
)
def test_each_fault_of_books_is_counted_alone(tmp_path: Path, books: Any, name: str, count: int) -> None:
    assert counts_of_books(tmp_path, *books) == {"rows": len(books), "verified": len(books), name: count}


def test_only_a_crossed_book_that_its_status_tells_to_be_right_is_unmarked(tmp_path: Path) -> None:
    statuses = ("verified", "checked", "unverifiable", "suspect", "warming", "unseeded")
    rows = [book(at, crossed=True, status=status) for at, status in enumerate(statuses)]
    counted = {"rows": 6, "crossed": 6, "crossed_unmarked": 3} | dict.fromkeys(statuses, 1)
    assert counts_of_books(tmp_path, *rows, book(6)) == counted | {"rows": 7, "verified": 2}
