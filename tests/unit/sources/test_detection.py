"""Each fault in a real capture fails the checks that must find the fault, and no unrelated check.

The table "What is caught" in `expectations/README.md` has these results: the fault, the check that finds it,
and the smallest fault that is found.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from captures import depth_rows, is_depth, message_of, write
from faulted import into

pytestmark = [pytest.mark.spark, pytest.mark.real_data]

Lines = list[bytes]
CAPTURES = {"spot": "btcusdt_20240808.gz", "usdm": "btcusdt_20240718.gz"}

GAPS, TRADES = "no gaps", "no missing trades"
CROSSED = "no crossed books"
BACK = "no more than 1.00% of origin times fall back"
READ = "no part that could not be read"
TIMED = "no more than 1.00% without an origin time"
LATE = "no more than 0.10% of messages late"
PROVEN = "no status worse than the feed can prove"
EQUAL = "more than 99.90% of books equal their golden samples"
DISTRIBUTION = "Kolmogorov-Smirnov p above 0.05"


@cache
def lines_of(folder: Path, market: str) -> tuple[bytes, ...]:
    return tuple(
        gzip.decompress((folder / "binance" / market / CAPTURES[market]).read_bytes()).splitlines(True)
    )


def failing(deltabook: Any, raw: Path, warehouse: Path, source: str = "binance") -> set[str]:
    """Run; return the expectations that failed in any suite."""
    run = deltabook("run", source, raw, *into(warehouse))
    query = "SELECT expectation FROM validations WHERE verdict = 'failed'"
    told = deltabook("sql", query, "--format", "json", "--warehouse", warehouse)
    found = {json.loads(line)["expectation"] for line in told.stdout.splitlines()}
    assert run.exit_status == int(bool(found))
    assert (run.summary["symbol_hours_failed"] > 0) == bool(found)
    return found


def edited(line: bytes, change: Callable[[dict], None]) -> bytes:
    """Change the message of a line."""
    stamp, text = line.split(b" ", 1)
    told = json.loads(text)
    change(told.get("data", told))
    return stamp + b" " + json.dumps(told, separators=(",", ":")).encode() + b"\n"


def diffs_edited(lines: Lines, every: int, change: Callable[[dict], None]) -> Lines:
    """Change one diff in so many."""
    chosen = set(depth_rows(lines)[every // 2 :: every])
    return [edited(line, change) if row in chosen else line for row, line in enumerate(lines)]


def lost_diff(lines: Lines) -> Lines:
    row = depth_rows(lines)[1000]
    return lines[:row] + lines[row + 1 :]


def late_messages(lines: Lines, every: int = 100) -> Lines:
    """One diff in so many comes after the next three."""
    rows = depth_rows(lines)
    kept = list(lines)
    for first in range(50, len(rows) - 4, every):
        places = rows[first : first + 4]
        moved = [lines[row] for row in (*places[1:], places[0])]
        for row, line in zip(places, moved, strict=True):
            kept[row] = line
    return kept


def ids_of(line: bytes) -> dict[str, int]:
    return {name: value for name, value in message_of(line).items() if name in ("U", "u", "pu")}


def permuted_ids(lines: Lines, every: int = 100) -> Lines:
    """Of so many diffs one and the tenth after it have each other's ids: the chain of ids stays whole."""
    rows = depth_rows(lines)
    kept = list(lines)
    for first in range(50, len(rows) - 10, every):
        one, other = rows[first], rows[first + 10]
        for row, ids in ((one, ids_of(lines[other])), (other, ids_of(lines[one]))):
            kept[row] = edited(lines[row], lambda message, ids=ids: message.update(ids))
    return kept


def repeated_ids(lines: Lines) -> Lines:
    """One diff has another's ids."""
    rows = depth_rows(lines)
    ids = ids_of(lines[rows[1002]])
    return [
        edited(line, lambda message: message.update(ids)) if row == rows[1000] else line
        for row, line in enumerate(lines)
    ]


def scaled(levels: list[list[str]], place: int, factor: float) -> None:
    for level in levels:
        level[place] = f"{float(level[place]) * factor:.8f}"


def scaled_sizes(lines: Lines, every: int = 1) -> Lines:
    return diffs_edited(lines, every, lambda message: scaled(message["b"], 1, 1.01))


def shifted_prices(lines: Lines, every: int = 1) -> Lines:
    """Bids a hundredth of a per cent lower: never crossed."""
    return diffs_edited(lines, every, lambda message: scaled(message["b"], 0, 0.9999))


def thinned_trades(lines: Lines, every: int = 50) -> Lines:
    trades = [row for row, line in enumerate(lines) if b"@trade" in line[:80]]
    lost = set(trades[10::every])
    return [line for row, line in enumerate(lines) if row not in lost]


def one_trade_lost(lines: Lines) -> Lines:
    return thinned_trades(lines, every=10**6)


def unreadable_size(lines: Lines) -> Lines:
    row = depth_rows(lines)[1000]

    def change(message: dict) -> None:
        message["b"][0][1] = "a lot"

    return [edited(line, change) if at == row else line for at, line in enumerate(lines)]


def retimed(message: dict, change: Callable[[int], int]) -> None:
    """Change the event time, and the transaction time that futures have."""
    message.update({name: change(message[name]) for name in ("E", "T") if name in message})


def times_fall_back(lines: Lines) -> Lines:
    """One diff in 40 says that it is five seconds older."""
    return diffs_edited(lines, 40, lambda message: retimed(message, lambda time: time - 5_000))


def times_missing(lines: Lines) -> Lines:
    """One diff in 40 has the time 0."""
    return diffs_edited(lines, 40, lambda message: retimed(message, lambda time: 0))


FAULTS: dict[str, tuple[Callable[[Lines], Lines], set[str], set[str]]] = {
    # What is done; what must fail; what may fail besides, since the fault's own consequence is that.
    "nothing": (list, set(), set()),
    "a lost diff": (lost_diff, {GAPS, PROVEN}, {EQUAL, CROSSED, DISTRIBUTION}),
    "1 % of messages late": (late_messages, {LATE}, set()),
    "1 % of ids permuted": (permuted_ids, {LATE, EQUAL}, {CROSSED, DISTRIBUTION, BACK}),
    "ids of another message": (repeated_ids, {GAPS, PROVEN}, {EQUAL, CROSSED, DISTRIBUTION}),
    "bid sizes scaled by 1.01": (scaled_sizes, {EQUAL}, {DISTRIBUTION}),
    "one trade in 50 lost": (thinned_trades, {TRADES}, set()),
    "one trade lost": (one_trade_lost, {TRADES}, set()),
    "an unreadable message": (unreadable_size, {GAPS, PROVEN}, {EQUAL, CROSSED, DISTRIBUTION}),
    "origin times that fall back": (times_fall_back, {BACK}, set()),
    "origin times missing": (times_missing, {TIMED}, set()),
    "bids shifted": (shifted_prices, {EQUAL, DISTRIBUTION}, {CROSSED}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("market", CAPTURES)
def test_fault_fails_the_checks_that_are_named_for_it(
    deltabook: Any, real_data: Path, tmp_path: Path, market: str, fault: str
) -> None:
    work, must, may = FAULTS[fault]
    raw = write(tmp_path / "raw.gz", work(list(lines_of(real_data, market))))
    found = failing(deltabook, raw, tmp_path / "w")
    assert must <= found <= must | may


def test_unreadable_part_of_a_feed_without_ids_fails_the_named_checks(
    deltabook: Any, real_data: Path, tmp_path: Path
) -> None:
    lines = (real_data / "kraken" / "KRAKEN.ws.50.0").read_bytes().splitlines(True)
    row = [row for row, line in enumerate(lines) if b'"book-1000"' in line and b'"c":' in line][500]
    number = re.search(rb'\["[0-9.]+","([0-9.]+)"', lines[row])
    lines[row] = lines[row].replace(number[1], b"a lot", 1)
    raw = write(tmp_path / "KRAKEN.ws.50.0", lines, compress=False)
    assert {READ, PROVEN} <= failing(deltabook, raw, tmp_path / "w", "kraken") <= {READ, PROVEN, EQUAL, GAPS}


def deep_sizes_scaled(lines: Lines) -> Lines:
    def change(message: dict) -> None:
        best = max((float(price) for price, _ in message["b"]), default=0)
        scaled([level for level in message["b"] if float(level[0]) < best * 0.99], 1, 1.01)

    return diffs_edited(lines, 1, change)


def test_a_fault_without_golden_rows_is_not_detected(deltabook: Any, real_data: Path, tmp_path: Path) -> None:
    """A blind spot: of Binance's feeds only the best prices have an independent truth."""
    lines = list(lines_of(real_data, "spot"))
    changed = deep_sizes_scaled(lines)
    assert sum(one != other for one, other in zip(lines, changed, strict=True)) > 1000
    assert failing(deltabook, write(tmp_path / "raw.gz", changed), tmp_path / "w") == set()


def test_last_message_has_no_witness(deltabook: Any, real_data: Path, tmp_path: Path) -> None:
    """A blind spot: no feed can prove its last message."""
    lines = list(lines_of(real_data, "spot"))
    last = depth_rows(lines)[-1]
    kept = [line for row, line in enumerate(lines) if row < last or not is_depth(line)]
    assert len(kept) == len(lines) - 1
    assert failing(deltabook, write(tmp_path / "raw.gz", kept), tmp_path / "w") == set()
