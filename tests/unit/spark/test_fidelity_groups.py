"""Compare books with golden rows, by id and level: the results equal those of plain loops."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.columns import Table
from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.schemas.tables import BOOKS, EVENTS, GOLDEN
from deltabook.udfs.spark.fidelity_groups import judge_groups
from deltabook.udfs.storage.data_files import write_data_file

START = 1_723_158_000_000_000_000 // HOUR * HOUR
DEPTH = 2

PLACE = st.tuples(st.integers(0, 1), st.integers(1, 12))
"""Epoch and id."""
BIDS = [[6], [6, 5], [6, 5, 4], [5, 4], [5], [], [9, 6], [5, 6], [6, 0]]
ASKS = [[7], [7, 8], [7, 8, 9], [8, 9], [8], [], [6, 7], [7, 7], [-1, 7]]
LISTS = st.tuples(*map(st.sampled_from, (BIDS, ASKS)))
"""Prices of both sides, which are their sizes too. The last of either cross or are not sorted or positive."""
KNOWN = st.tuples(*[st.integers(0, 3)] * 2)
STATUS = st.sampled_from(["verified", "checked", "unverifiable", "suspect", "warming", "unseeded"])
TOLD = ("verified", "checked", "unverifiable")


def rows_of(table: Table, rows: list[dict[str, Any]]) -> list[pa.RecordBatch]:
    default = {"BIGINT": 0, "INT": 0, "STRING": "", "DATE": datetime.date(2024, 8, 8), "BOOLEAN": False}
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


def count_known(book: dict[str, Any], side: str, feed: str) -> float:
    known: int = book[f"{side}_known_levels"]
    is_whole = known == book[f"{side}_levels"] and feed == "kraken"
    return math.inf if is_whole else known  # every level that a whole side lacks is known to be absent


def compare(book: dict[str, Any], golden: dict[str, Any], depth: int, feed: str) -> tuple[bool, int]:
    """Return whether the known levels are equal, and how many golden levels the book does not know.

    A golden row may show fewer levels than the book, but none only if the book has none.
    """
    equal, unknown = True, 0
    for side in ("bid", "ask"):
        shown, true = (
            list(zip(*(row[f"{side}_{what}"] for what in ("prices", "sizes")), strict=True))
            for row in (book, golden)
        )
        known, wanted = count_known(book, side, feed), min(len(true), depth)
        count = int(min(wanted, known))
        equal &= shown[:count] == true[:count] and bool(true or not shown)
        unknown += wanted - count
    return equal, unknown


def is_possible(golden: dict[str, Any], kind: str) -> bool:
    bids, asks = golden["bid_prices"], golden["ask_prices"]
    is_sorted = bids == sorted({*bids}, reverse=True) and asks == sorted({*asks})
    has_both = bool(bids and asks)
    return (
        is_sorted
        and all(number > 0 for number in (*bids, *asks))
        and not (has_both and bids[0] > asks[0])
        and (has_both or kind == "book_ticker")
    )


def expected(kind: str, feed: str, updates: list, books: list, golden: list, at_once: int) -> dict[str, Any]:
    depth = 1 if kind == "book_ticker" else DEPTH
    diffs = [place for place, is_snapshot in updates if not is_snapshot]
    verdicts, counts, stopped = [], Counter(), {}
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
        if kind == "book_ticker" and stopped[epoch, number]:
            continue
        if shown[-1]["cadence"] == "1s" and shown[-1]["sequence"] != number:
            continue
        snapshots = [last for (of, last), is_snapshot in updates if is_snapshot and of == epoch]
        if shown[-1]["status"] not in TOLD:
            counts["unsound"] += 1
        elif not is_possible(found, kind):
            counts["impossible"] += 1
        elif not any(count_known(shown[-1], side, feed) for side in ("bid", "ask")):
            counts["unknown"] += 1
        elif kind == "book_ticker" and any(found["sequence"] < last <= number for last in snapshots):
            counts["outdated"] += 1
        else:
            equal, unknown = compare(shown[-1], found, depth, feed)
            verdicts.append((number, equal))
            counts["unverifiable"] += shown[-1]["status"] == "unverifiable"
            counts["unknown levels"] += unknown
    wrong = [number for number, equal in verdicts if not equal]
    return {
        "compared": len(verdicts),
        "matched": len(verdicts) - len(wrong),
        "first_divergence": min(wrong, default=NOT_GIVEN),
        "unverifiable": counts.pop("unverifiable", 0),
        "counts": +counts,
    }


@pytest.mark.parametrize("kind", ["book_ticker", "vendor_book"])
@cases(150)
@given(
    feed=st.sampled_from(["binance", "kraken"]),
    updates=st.lists(st.tuples(PLACE, st.sampled_from([False, False, True])), min_size=1, unique=True),
    shown=st.lists(st.tuples(PLACE, LISTS, KNOWN, STATUS), min_size=1, max_size=8),
    known=st.lists(st.tuples(PLACE, LISTS), min_size=1, max_size=8),
    cadence=st.sampled_from(["change", "1s"]),
    earlier=st.integers(0, 2),
    at_once=st.sampled_from([1, 2, 3, 100]),
)
def test_comparisons_are_those_of_plain_loops(
    tmp_path_factory: Any,
    kind: str,
    feed: str,
    updates: list,
    shown: list,
    known: list,
    cadence: str,
    earlier: int,
    at_once: int,
) -> None:
    root = tmp_path_factory.mktemp("judged")
    updates = sorted(updates)
    books = [
        {"epoch": epoch, "sequence": number, "status": status, "cadence": cadence, **levels(*lists)}
        | {"bid_known_levels": min(counts[0], len(lists[0])), "bid_levels": max(counts[0], len(lists[0]))}
        | {"ask_known_levels": min(counts[1], len(lists[1])), "ask_levels": max(counts[1], len(lists[1]))}
        for (epoch, number), lists, counts, status in sorted(shown, key=lambda one: one[0])
    ]
    golden = [
        {"epoch": epoch, "sequence": number, "source_row": row, "kind": kind, **levels(*lists)}
        for row, ((epoch, number), lists) in enumerate(sorted(known, key=lambda one: one[0]))
    ]
    events = [
        {"event_type": "book_update", "epoch": epoch, "sequence": number}
        | {"data": no_data() | {"is_snapshot": is_snapshot}}
        for (epoch, number), is_snapshot in updates
    ]
    reference = {
        "event_files": file_of(root, EVENTS, events),
        "book_files": file_of(root, BOOKS, books[earlier:]),
        "files_before": file_of(root, BOOKS, [row | {"hour": START - HOUR} for row in books[:earlier]]),
        "golden_files": [file for row in golden for file in file_of(root, GOLDEN, [row])],
        "golden_from": 0,
        "feed": feed,
    }
    found = judged(reference, root, at_once)
    seen = books[max(min(earlier, len(books)) - 1, 0) :]  # of the hours before, the last row
    told = expected(kind, feed, updates, seen, golden, at_once)
    skipped = told.pop("counts")
    (counted,) = [row for row in found if (row["metric"], row["kind"]) == ("match", kind)]
    assert {name: counted[name] for name in told} == told
    ratio = told["matched"] / told["compared"] if told["compared"] else None
    assert counted["verdict"] == ("none" if ratio is None else "passed" if ratio > 0.5 else "failed")
    assert ratio is None or counted["value"] == ratio
    (other,) = [row for row in found if row["metric"] == "match" and row["kind"] != kind]
    assert (other["compared"], other["verdict"]) == (0, "none")
    of_kind = {name: told[name] for name in ("compared", "matched")} | skipped
    of_none = {f"{other['kind']} {name}": 0 for name in ("compared", "matched")}
    assert counts_of(found) == {f"{kind} {name}": count for name, count in of_kind.items()} | of_none


def counts_of(found: list[dict[str, Any]]) -> dict[str, int]:
    (row,) = [row for row in found if row["table"] == "verdicts"]
    return dict(zip(row["counted"], row["counts"], strict=True))


def judged(reference: dict[str, Any], root: Path, at_once: int = 100) -> list[dict[str, Any]]:
    reference = {"exchange": "BINANCE", "symbol": "BTC-USDT", "hour": START, "feed": "binance"} | reference
    reference |= {"is_decimal": False, "price_scale": 0, "size_scale": 0}
    lists = ("recordings", "recorded_feeds", "recorded_files", "ticker_files")
    reference |= {name: [] for name in lists}
    key = (reference["exchange"], reference["symbol"], reference["hour"])
    judge = judge_groups(str(root), DEPTH, 0.5, at_once)
    return [
        row for frame in judge(key, iter([pd.DataFrame([reference])])) for row in frame.to_dict("records")
    ]


NAMES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")


def reference_to(root: Path, books: list[Any], truth: tuple[list[int], ...], **fields: Any) -> dict[str, Any]:
    """Return a reference to books of the ids 1, 2, …, all of whose levels are known, and one true book."""
    sides = [dict(zip(NAMES, book, strict=True)) for book in books]
    lengths = [{side: len(book[f"{side}_prices"]) for side in ("bid", "ask")} for book in sides]
    rows = [
        {"sequence": number, "status": "verified", "cadence": "change", **book}
        | {f"{side}_{count}": most for side, most in counts.items() for count in ("known_levels", "levels")}
        for number, (book, counts) in enumerate(zip(sides, lengths, strict=True), 1)
    ]
    ids = range(1, len(books) + 1)
    golden = [
        {
            "sequence": number,
            "kind": "vendor_book",
            "received": number,
            **dict(zip(NAMES, truth, strict=True)),
        }
        for number in ids
    ]
    events = [{"event_type": "book_update", "sequence": number, "data": no_data()} for number in ids]
    return {
        "event_files": file_of(root, EVENTS, events),
        "book_files": file_of(root, BOOKS, rows),
        "files_before": [],
        "golden_files": file_of(root, GOLDEN, golden),
        "golden_from": 0,
    } | fields


SHOWN = [
    ([9, 8], [5, 5], [11, 12], [5, 5]),
    ([9, 8], [5, 5], [11, 12], [5, 6]),
    ([9], [5], [11, 13], [5, 5]),
]


def counts_by_level(rows: list[dict[str, Any]]) -> dict[tuple[str, int], tuple[int, int]]:
    return {
        (row["metric"], row["level"]): (row["compared"], row["matched"])
        for row in rows
        if row["metric"].endswith("_match")
    }


def test_levels_are_counted_and_mismatches_kept_with_both_sides(tmp_path: Path) -> None:
    rows = judged(reference_to(tmp_path, SHOWN, SHOWN[0], feed="kraken"), tmp_path, at_once=2)
    assert counts_by_level(rows) == {
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
    assert [tuple(row[name] for name in NAMES) for row in kept] == SHOWN[1:]
    assert [tuple(row[f"golden_{name}"] for name in NAMES) for row in kept] == SHOWN[:1] * 2


def test_a_level_below_the_last_one_is_unknown_unless_snapshots_are_whole(tmp_path: Path) -> None:
    rows = judged(reference_to(tmp_path, SHOWN[2:], SHOWN[0], feed="binance"), tmp_path)
    assert counts_by_level(rows) == {
        ("price_match", 1): (2, 2),
        ("size_match", 1): (2, 2),
        ("price_match", 2): (1, 0),
        ("size_match", 2): (1, 1),
    }
    assert counts_of(rows)["vendor_book unknown levels"] == 1
    rows = judged(reference_to(tmp_path, SHOWN[2:], SHOWN[0], feed="kraken"), tmp_path)
    assert counts_by_level(rows)["price_match", 2] == (2, 0)
    assert "vendor_book unknown levels" not in counts_of(rows)
