"""Compare books with golden rows, by id and level: the results equal those of plain loops."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.columns import SIDE_NAMES, Table
from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.schemas.tables import BOOKS, EVENTS, GOLDEN
from deltabook.udfs.spark.fidelity_groups import judge_groups
from deltabook.udfs.storage.data_files import write_data_file

START = 1_723_158_000_000_000_000 // HOUR * HOUR
DEPTH = 2

PLACE = st.tuples(st.integers(0, 1), st.integers(1, 12))
"""Epoch and id."""
LISTS = st.tuples(*[st.lists(st.integers(1, 2), max_size=3)] * 2)
STATUS = st.sampled_from(["verified", "unverifiable", "suspect", "unseeded"])


def rows_of(table: Table, rows: list[dict[str, Any]]) -> list[pa.RecordBatch]:
    default = {"BIGINT": 0, "STRING": "", "DATE": datetime.date(2024, 8, 8), "BOOLEAN": False}
    usual = {column.name: default.get(column.type, []) for column in table.columns}
    usual |= {"exchange": "BINANCE", "symbol": "BTC-USDT", "hour": START}
    return [pa.RecordBatch.from_pylist([usual | row for row in rows], schema=table.arrow)]


def file_of(root: Path, table: Table, rows: list[dict[str, Any]]) -> list[str]:
    written = write_data_file(str(root), table, rows_of(table, rows) if rows else []).to_pylist()
    return [(root / table.name / row["path"]).as_uri() for row in written]


def no_data() -> dict[str, Any]:
    return {
        field.name: {pa.int64(): 0, pa.string(): "", pa.bool_(): False}.get(field.type, [])
        for field in EVENTS.arrow.field("data").type
    }


def levels(bids: list[int], asks: list[int]) -> dict[str, list[int]]:
    return {"bid_prices": bids, "bid_sizes": bids, "ask_prices": asks, "ask_sizes": asks}


def same(book: dict[str, Any], golden: dict[str, Any], depth: int) -> bool:
    """Golden rows may show less than the book, but nothing only if it has nothing."""
    known = {side: golden[side][:depth] for side in SIDE_NAMES}
    return all(book[side][: max(len(known[side]), 1)] == known[side] for side in SIDE_NAMES)


def expected(kind: str, diffs: list, books: list, golden: list, at_once: int) -> dict[str, int]:
    depth = 1 if kind == "book_ticker" else DEPTH
    verdicts, unverifiable, stopped = [], 0, {}
    for epoch in {of for of, _ in diffs}:
        numbers = [number for of, number in diffs if of == epoch]
        ids = [row["sequence"] for row in golden if row["epoch"] == epoch]
        for start in range(0, len(numbers), at_once):
            window = numbers[start : start + at_once]
            no_more = not any(window[0] < number <= window[-1] for number in ids)
            stopped |= {(epoch, number): no_more for number in window}
    places = diffs if kind == "book_ticker" else [(row["epoch"], row["sequence"]) for row in golden]
    for at, (epoch, number) in enumerate(places):
        of = [row for row in golden if (row["epoch"], row["sequence"] <= number) == (epoch, True)]
        found = golden[at] if kind != "book_ticker" else (of[-1] if of else None)
        shown = [row for row in books if (row["epoch"], row["sequence"] <= number) == (epoch, True)]
        if found is None or not shown or (epoch, number) not in diffs:
            continue
        if (kind == "book_ticker" and stopped[epoch, number]) or shown[-1]["status"] == "unseeded":
            continue
        if shown[-1]["cadence"] == "1s" and shown[-1]["sequence"] != number:
            continue
        verdicts.append((number, same(shown[-1], found, depth)))
        unverifiable += shown[-1]["status"] == "unverifiable"
    wrong = [number for number, equal in verdicts if not equal]
    return {
        "compared": len(verdicts),
        "matched": len(verdicts) - len(wrong),
        "first_divergence": min(wrong, default=NOT_GIVEN),
        "unverifiable": unverifiable,
    }


@pytest.mark.parametrize("kind", ["book_ticker", "vendor_book"])
@cases(150)
@given(
    diffs=st.lists(PLACE, min_size=1, unique=True),
    shown=st.lists(st.tuples(PLACE, LISTS, STATUS), min_size=1, max_size=8),
    known=st.lists(st.tuples(PLACE, LISTS), min_size=1, max_size=8),
    cadence=st.sampled_from(["change", "1s"]),
    earlier=st.integers(0, 2),
    at_once=st.sampled_from([1, 2, 3, 100]),
)
def test_comparisons_are_those_of_plain_loops(
    tmp_path_factory: Any,
    kind: str,
    diffs: list,
    shown: list,
    known: list,
    cadence: str,
    earlier: int,
    at_once: int,
) -> None:
    root = tmp_path_factory.mktemp("judged")
    diffs = sorted(diffs)
    books = [
        {"epoch": epoch, "sequence": number, "status": status, "cadence": cadence, **levels(*lists)}
        for (epoch, number), lists, status in sorted(shown, key=lambda one: one[0])
    ]
    golden = [
        {"epoch": epoch, "sequence": number, "source_row": row, "kind": kind, **levels(*lists)}
        for row, ((epoch, number), lists) in enumerate(sorted(known, key=lambda one: one[0]))
    ]
    events = [
        {"event_type": "book_update", "epoch": epoch, "sequence": number, "data": no_data()}
        for epoch, number in diffs
    ]
    reference = {
        "event_files": file_of(root, EVENTS, events),
        "book_files": file_of(root, BOOKS, books[earlier:]),
        "files_before": file_of(root, BOOKS, [row | {"hour": START - HOUR} for row in books[:earlier]]),
        "golden_files": [file for row in golden for file in file_of(root, GOLDEN, [row])],
        "golden_from": 0,
    }
    found = judged(reference, root, at_once)
    seen = books[max(min(earlier, len(books)) - 1, 0) :]  # of the hours before, the last row
    told = expected(kind, diffs, seen, golden, at_once)
    (counted,) = [row for row in found if (row["metric"], row["kind"]) == ("match", kind)]
    assert {name: counted[name] for name in told} == told
    ratio = told["matched"] / told["compared"] if told["compared"] else None
    assert counted["verdict"] == ("none" if ratio is None else "passed" if ratio > 0.5 else "failed")
    assert ratio is None or counted["value"] == ratio
    (other,) = [row for row in found if row["metric"] == "match" and row["kind"] != kind]
    assert (other["compared"], other["verdict"]) == (0, "none")


def judged(reference: dict[str, Any], root: Path, at_once: int = 100) -> list[dict[str, Any]]:
    reference = {"exchange": "BINANCE", "symbol": "BTC-USDT", "hour": START} | reference
    reference |= {"is_decimal": False, "price_scale": 0, "size_scale": 0}
    key = (reference["exchange"], reference["symbol"], reference["hour"])
    judge = judge_groups(str(root), DEPTH, 0.5, at_once)
    return [
        row for frame in judge(key, iter([pd.DataFrame([reference])])) for row in frame.to_dict("records")
    ]


def test_levels_are_counted_and_mismatches_kept_with_both_sides(tmp_path: Path) -> None:
    shown = [
        ([9, 8], [5, 5], [11, 12], [5, 5]),
        ([9, 8], [5, 5], [11, 12], [5, 6]),
        ([9], [5], [11, 13], [5, 5]),
    ]
    names = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
    books = [
        {
            "sequence": number,
            "status": "verified",
            "cadence": "change",
            **dict(zip(names, sides, strict=True)),
        }
        for number, sides in enumerate(shown, 1)
    ]
    truth = dict(zip(names, shown[0], strict=True))
    golden = [
        {"sequence": number, "kind": "vendor_book", "received": number, **truth} for number in (1, 2, 3)
    ]
    events = [{"event_type": "book_update", "sequence": number, "data": no_data()} for number in (1, 2, 3)]
    reference = {
        "event_files": file_of(tmp_path, EVENTS, events),
        "book_files": file_of(tmp_path, BOOKS, books),
        "files_before": [],
        "golden_files": file_of(tmp_path, GOLDEN, golden),
        "golden_from": 0,
    }
    rows = judged(reference, tmp_path, at_once=2)
    levels = {
        (row["metric"], row["level"]): (row["compared"], row["matched"])
        for row in rows
        if row["metric"].endswith("_match")
    }
    assert levels == {
        ("price_match", 1): (6, 6),
        ("size_match", 1): (6, 6),
        ("price_match", 2): (6, 4),  # of one book a level is missing, of the same one another is wrong
        ("size_match", 2): (6, 4),
    }
    (whole,) = [row for row in rows if row["metric"] == "match" and row["compared"] > 0]
    assert (whole["compared"], whole["matched"], whole["first_divergence"]) == (3, 1, 2)
    (added,) = [row for row in rows if row["table"] == "mismatches"]
    kept = pq.ParquetFile(tmp_path / "mismatches" / added["path"]).read().to_pylist()
    assert [(row["sequence"], row["level"], row["kind"], row["received"]) for row in kept] == [
        (2, 2, "vendor_book", 2),
        (3, 2, "vendor_book", 3),
    ]
    assert [tuple(row[name] for name in names) for row in kept] == shown[1:]
    assert [tuple(row[f"golden_{name}"] for name in names) for row in kept] == shown[:1] * 2
