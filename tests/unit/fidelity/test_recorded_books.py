"""Which of two differing books is wrong, by the exchange's checksums and tickers: each case by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from test_fidelity_groups import file_of, levels

from deltabook.schemas.tables import GOLDEN
from deltabook.udfs.fidelity.golden_match import Window
from deltabook.udfs.fidelity.recorded_books import BOOK, RECORDING, UNDECIDED, decide_wrong

BOOK_ID, RECORDED_ID = 7, 70
CHECKSUMS = ({"kind": "checksum", "sequence": BOOK_ID}, {"kind": "checksum", "sequence": RECORDED_ID})
KRAKEN, NO_CHECKSUM = "kraken", "tardis"


def decide(
    root: Path,
    golden: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([CHECKSUMS[0]], [CHECKSUMS[1]]),
    feeds: tuple[str, str] = (KRAKEN, KRAKEN),
    statuses: tuple[str, str] = ("checked", "checked"),
    level: int = 0,
) -> str:
    """Return the wrong side of one pair, whose best bids differ: 9 in the book, 8 in the recording."""
    book, recorded = (
        pa.Table.from_pylist([{"epoch": 0, "sequence": BOOK_ID, "status": status} | levels([bid], [11])])
        for bid, status in zip((9, 8), statuses, strict=True)
    )
    for name, value in (("recorded_epoch", 0), ("recorded_sequence", RECORDED_ID)):
        recorded = recorded.append_column(name, pa.array([value]))
    first, known = np.zeros(1, np.int64), np.ones((1, 2), np.int64)
    ids, is_unverifiable = np.array([BOOK_ID]), np.zeros(1, np.bool_)
    window = Window(book, recorded, first, first, ids, known, is_unverifiable, 25, {})
    files = file_of(root, GOLDEN, golden[0]), file_of(root, GOLDEN, golden[1])
    (wrong,) = decide_wrong(window, first, np.array([level]), "BINANCE", feeds, files)
    return str(wrong)


@pytest.mark.parametrize("status", ["checked", "verified"])
def test_a_side_is_wrong_if_only_the_other_one_has_a_matched_checksum(tmp_path: Path, status: str) -> None:
    assert decide(tmp_path, feeds=(KRAKEN, NO_CHECKSUM), statuses=(status, "unverifiable")) == RECORDING
    assert decide(tmp_path, feeds=(NO_CHECKSUM, KRAKEN), statuses=("unverifiable", status)) == BOOK
    assert decide(tmp_path, ([CHECKSUMS[0]], []), statuses=(status, status)) == RECORDING
    assert decide(tmp_path, ([], [CHECKSUMS[1]]), statuses=(status, status)) == BOOK


def test_two_checksums_or_none_decide_nothing(tmp_path: Path) -> None:
    assert decide(tmp_path) == UNDECIDED
    assert decide(tmp_path, ([], [])) == UNDECIDED


def test_a_checksum_counts_only_with_a_proven_status_and_the_ids_of_its_own_row(tmp_path: Path) -> None:
    assert decide(tmp_path, ([CHECKSUMS[0]], []), statuses=("unverifiable", "checked")) == UNDECIDED
    assert decide(tmp_path, ([CHECKSUMS[1]], [CHECKSUMS[0]])) == UNDECIDED
    assert decide(tmp_path, ([CHECKSUMS[0] | {"epoch": 1}], [])) == UNDECIDED
    assert decide(tmp_path, ([CHECKSUMS[0]], []), feeds=(NO_CHECKSUM, NO_CHECKSUM)) == UNDECIDED


@pytest.mark.parametrize(("feed", "covered"), [(KRAKEN, 10), ("okx", 25)])
def test_a_checksum_decides_only_on_the_levels_that_it_covers(
    tmp_path: Path, feed: str, covered: int
) -> None:
    feeds = (feed, NO_CHECKSUM)
    assert decide(tmp_path, feeds=feeds, level=covered - 1) == RECORDING
    assert decide(tmp_path, feeds=feeds, level=covered) == UNDECIDED


@pytest.mark.parametrize(("bid", "wrong"), [(9, RECORDING), (8, UNDECIDED), (5, RECORDING)])
def test_a_ticker_that_contradicts_a_checksum_leaves_the_pair_undecided(
    tmp_path: Path, bid: int, wrong: str
) -> None:
    ticker = {"kind": "book_ticker", "sequence": BOOK_ID} | levels([bid], [11])
    assert decide(tmp_path, ([CHECKSUMS[0], ticker], [])) == wrong
    assert decide(tmp_path, ([ticker], [])) == {9: RECORDING, 8: BOOK, 5: UNDECIDED}[bid]
