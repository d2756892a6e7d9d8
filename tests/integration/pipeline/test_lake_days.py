"""Rebuild Crypto Lake days made from a real capture: told books equal what the exchange itself showed.

Each day begins in mid-stream and has no snapshot, as the vendor ships it; `lake_captures` adds the faults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from conftest import invoke
from faulted import gap_kinds
from lake_captures import find_captures, judge_books, read_capture, write_lake_day

from deltabook.jobs.tables.delta_tables import open_table
from deltabook.schemas.tables import BOOKS

pytestmark = [pytest.mark.real_data, pytest.mark.spark]

ALONE = ("book_delta_v2", "trades")
WITH_BOOKS = (*ALONE, "book")
EVERY = (*WITH_BOOKS, "level_1", "book_1m", "deep_book_1m")
DEPTH = 20


@pytest.fixture(scope="module")
def captures(real_data):
    return {
        market: (*find_captures(market)[:2], read_capture(find_captures(market)[2]))
        for market in ("spot", "usdm")
    }


def rebuild(captures, folder, *options, market="spot", tables=WITH_BOOKS, **faults):
    """Run the plain command on a day; return its result, the day, and the judgement of its books."""
    exchange, symbol, capture = captures[market]
    day = write_lake_day(folder / "day", capture, exchange=exchange, symbol=symbol, tables=tables, **faults)
    run = invoke("run", "crypto_lake", folder / "day", "--warehouse", folder / "w", "--json", *options)
    return run, day, judge(folder / "w", day)


def judge(warehouse, day, *, by_status=False):
    """Judge books by the levels that they know; or by their status alone, whatever they know."""
    order = [("epoch", "ascending"), ("sequence", "ascending")]
    books = open_table(warehouse, BOOKS).to_pyarrow_table().sort_by(order)
    return judge_books(books.drop(["bid_known_levels"]) if by_status else books, day, DEPTH)


DAYS = {
    "clean": {},
    "one delete in 100 lost": {"lost_deletes": 0.01},
    "one delete in 1,000 lost": {"lost_deletes": 0.001},
    "vendor's books: 30 % crossed": {"vendor_crossed": 0.3},
    "vendor's books: 40 % crossed": {"vendor_crossed": 0.4},
    "vendor's books: 10 % wrong": {"vendor_wrong": 0.1},
    "begins late": {"late_ns": 60 * 10**9},
    "ids restart": {"restart_ids_at": 0.5},
    "ids are 0": {"without_ids": True},
    "a stretch is missing": {"missing_stretch": (0.4, 0.6)},
}
QUICK = {"clean", "one delete in 100 lost", "vendor's books: 30 % crossed", "ids restart"}
LEAST_TOLD = {
    "one delete in 100 lost": 0.95,
    "vendor's books: 10 % wrong": 0.85,
    "a stretch is missing": 0.77,
}
GAPS = {"stranded_level", "restored_level", "reseed", "silence", "new_session"}


def cases(names: Iterable[str]) -> Iterator[object]:
    """Each day of both markets; only the quick ones of spot belong to the default suite."""
    for market in ("spot", "usdm"):
        for name in names:
            is_quick = market == "spot" and name in QUICK
            yield pytest.param(
                market, name, marks=() if is_quick else pytest.mark.long, id=f"{market}: {name}"
            )


@pytest.mark.parametrize(("market", "name"), [*cases(DAYS)])
def test_books_with_known_best_levels_equal_the_exchanges(spark, captures, tmp_path, market, name):
    faults = DAYS[name]
    run, _, judgement = rebuild(captures, tmp_path, market=market, **faults)
    assert run.exit_status == 0, run.said
    assert set(run.summary["verdicts"].values()) <= {"passed", "none"}
    is_contradicted = {"lost_deletes", "vendor_wrong"} & {*faults}
    assert judgement.told >= LEAST_TOLD.get(name, 0.97) * judgement.judged
    assert judgement.right >= 0.999 * judgement.told
    if not is_contradicted:
        assert judgement.right == judgement.told
    if not is_contradicted and "without_ids" not in faults:
        assert judgement.levels_right == judgement.told
    assert gap_kinds(tmp_path / "w") <= GAPS


@pytest.mark.parametrize("market", ["spot", pytest.param("usdm", marks=pytest.mark.long)])
def test_many_wrong_books_of_the_vendor_make_no_best_level_wrong(spark, captures, tmp_path, market):
    _, _, judgement = rebuild(captures, tmp_path, market=market, vendor_wrong=0.4)
    assert judgement.right == judgement.told > 0.5 * judgement.judged
    assert judgement.levels_right > 0.99 * judgement.told


@pytest.mark.parametrize("tables", [(*ALONE, "level_1"), (*ALONE, "deep_book_1m"), EVERY], ids=len)
def test_other_tables_of_the_vendors_books_support_a_book_too(spark, captures, tmp_path, tables):
    run, _, judgement = rebuild(captures, tmp_path, tables=tables)
    assert run.exit_status == 0, run.said
    match = run.summary["golden_matches"]["vendor_book"]
    assert match["compared"] == match["matched"] > 10
    assert run.summary["distribution_tests"]["tested"] == run.summary["distribution_tests"]["passed"] > 0
    assert judgement.right == judgement.told >= 0.96 * judgement.judged


@pytest.mark.parametrize(("market", "name"), [*cases(["clean", "ids are 0"])])
def test_deltas_alone_warm_a_book(spark, captures, tmp_path, market, name):
    run, day, judgement = rebuild(captures, tmp_path, market=market, tables=ALONE, **DAYS[name])
    assert run.exit_status == 0, run.said
    assert run.summary["verdicts"] == {
        "raw": "passed",
        "events": "passed",
        "books": "passed",
        "fidelity": "none",
    }
    assert judgement.right == judgement.levels_right == judgement.told > 0.5 * judgement.judged
    by_status = judge(tmp_path / "w", day, by_status=True)
    assert by_status.told >= 0.97 * by_status.judged
    assert by_status.right >= 0.995 * by_status.told
