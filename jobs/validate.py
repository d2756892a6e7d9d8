"""The job `validate`: are the books unbroken, and do they equal the golden samples?"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import reduce
from importlib.metadata import version
from operator import itemgetter
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from deltabook.expectations.continuity import SUITE as CONTINUITY
from deltabook.expectations.continuity import judge_continuity
from deltabook.expectations.fidelity import SUITE as FIDELITY_SUITE
from deltabook.expectations.fidelity import judge_fidelity
from deltabook.expectations.suites import ERRORED, FAILED, NONE, PASSED, Judgement
from deltabook.jobs.progress import Progress
from deltabook.jobs.warehouse import Run, Warehouse
from deltabook.schemas.columns import Table
from deltabook.schemas.names import (
    NANOSECONDS_PER_SECOND,
    NOT_GIVEN,
    Cadence,
    EventType,
    GapKind,
    GoldenKind,
    Status,
)
from deltabook.schemas.tables import (
    BOOKS,
    CHECKS,
    EVENTS,
    FIDELITY,
    GAPS,
    GOLDEN,
    RUNS,
    VALIDATIONS,
    both,
)

_SIDES = ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes")
_JUDGED = (*both(BOOKS), CHECKS, *both(EVENTS), GAPS, *both(GOLDEN))
_OF_BOOKS = ("exchange", "symbol", "hour", "epoch", "sequence", "order_time", "status", "crossed")
_WORST_FIRST = (ERRORED, FAILED, NONE, PASSED)


def validate(warehouse: Warehouse, run: Run, progress: Progress) -> dict[str, Any]:
    """Judge all books.

    Parameters
    ----------
    warehouse : Warehouse
        Is being written by `run`.
    run : Run
        The run this belongs to.
    progress : Progress
        Where to show what is done.

    Returns
    -------
    dict
        Verdict of each suite, and the golden rows compared and matched by kind.
    """
    started = time.monotonic()
    if (told := _told_before(warehouse)) is not None:
        return told
    with progress.stage("validating", "suites", 2):
        continuity = continuity_summary(warehouse).toPandas()
        fidelity = fidelity_summary(warehouse).toPandas()
        unverifiable = int(continuity["unverifiable"].sum())
        judged = {
            CONTINUITY: (continuity, judge_continuity(continuity), unverifiable),
            FIDELITY_SUITE: (
                fidelity,
                judge_fidelity(fidelity, warehouse.settings.minimum_match),
                int(fidelity["unverifiable"].sum()),
            ),
        }
        measured = [{str(name): value for name, value in row.items()} for row in fidelity.to_dict("records")]
        warehouse.append(FIDELITY, [row | {"run_id": run.run_id} for row in measured])
        warehouse.append(
            VALIDATIONS,
            [
                {
                    "run_id": run.run_id,
                    "suite": suite,
                    "expectation": judgement.expectation,
                    "verdict": judgement.verdict,
                    "observed": judgement.observed,
                    "rows": len(summary),
                    "unverifiable": rows,
                }
                for suite, (summary, judgements, rows) in judged.items()
                for judgement in judgements
            ],
        )
    golden = fidelity.groupby("kind")[["compared", "matched"]].sum()
    return {
        "verdicts": {suite: _worst(judgements) for suite, (_, judgements, _) in judged.items()},
        "failures": [
            f"{suite}: {judgement.expectation}: {judgement.observed}"
            for suite, (_, judgements, _) in judged.items()
            for judgement in judgements
            if judgement.verdict in (FAILED, ERRORED)
        ],
        "golden_matches": {
            kind: {name: int(n) for name, n in row.items()} for kind, row in golden.iterrows()
        },
        "unverifiable_rows": unverifiable,
        "crossed": int(continuity["crossed"].sum()),
        "validate_seconds": round(time.monotonic() - started, 2),
    }


def _told_before(warehouse: Warehouse) -> dict[str, Any] | None:
    """Return what the last validation said if nothing that it looked at has changed since."""
    last = max(
        (row for row in warehouse.rows(RUNS) if row["command"] == "validate"),
        key=itemgetter("finished"),
        default=None,
    )
    if last is None or last["settings_hash"] != warehouse.settings.fingerprint:
        return None
    if last["code_version"] != version("deltabook"):
        return None
    judged, stands = dict(last["versions"]), warehouse.versions()
    if any(judged.get(table.name) != stands.get(table.name) for table in _JUDGED):
        return None
    return dict(json.loads(last["summary"]))


def continuity_summary(warehouse: Warehouse) -> DataFrame:
    """Count, for each symbol-hour, what the suite `continuity` judges."""
    in_order = F.lag("order_time").over(
        Window.partitionBy("exchange", "symbol", "hour").orderBy("epoch", "sequence")
    )
    books = (
        warehouse.read_both(BOOKS, lambda rows: rows.select(*_OF_BOOKS))
        .withColumn("late", F.col("order_time") < in_order)
        .withColumn("unseeded", F.col("status") == Status.UNSEEDED.label)
        .withColumn("suspect", F.col("status") == Status.SUSPECT.label)
        .groupBy("exchange", "symbol", "hour")
        .agg(
            F.count("*").alias("rows"),
            F.sum(F.col("late").cast("bigint")).alias("late"),
            F.sum(F.col("crossed").cast("bigint")).alias("crossed"),
            F.sum(F.col("unseeded").cast("bigint")).alias("unseeded"),
            F.sum(F.col("suspect").cast("bigint")).alias("suspect"),
            F.sum((F.col("status") == Status.UNVERIFIABLE.label).cast("bigint")).alias("unverifiable"),
        )
    )
    # Ids order the feed, whatever its clock says; silence is told by `coverage`; crossed rows are counted.
    no_gaps = (GapKind.CLOCK_JUMP.label, GapKind.SILENCE.label, GapKind.CROSSED_BOOK.label)
    by_hour = warehouse.read(GAPS).where(~F.col("kind").isin(*no_gaps)).groupBy("exchange", "symbol", "hour")
    gaps = by_hour.agg(F.count("*").alias("gaps"))
    worse = F.when(F.col("unseeded") == F.col("rows"), F.col("rows")).otherwise(F.col("suspect"))
    return books.join(gaps, ["exchange", "symbol", "hour"], "full").select(
        "exchange",
        "symbol",
        _time().alias("time"),
        F.coalesce("gaps", F.lit(0)).alias("gaps"),
        F.coalesce("late", F.lit(0)).alias("out_of_order"),
        F.coalesce("crossed", F.lit(0)).alias("crossed"),
        F.coalesce(worse, F.lit(0)).alias("worse"),
        F.coalesce("unverifiable", F.lit(0)).alias("unverifiable"),
    )


def fidelity_summary(warehouse: Warehouse) -> DataFrame:
    """Compare the books with the golden rows, for each symbol-hour and kind.

    `book_ticker`: at each diff whose book is seeded, the best bid and ask with the last ticker whose
    id is not above the diff's last id. `vendor_book`: at each such row whose id is a diff's last id,
    all its levels down to the depth of `books`. Price and size, both sides, as integers. `checksum` and
    `snapshot`: as the rebuild has compared them, at full depth.
    """
    forms = list(zip(*map(both, (BOOKS, GOLDEN, EVENTS)), strict=True))
    by_id = [_compared(warehouse, tables) for tables in forms if warehouse.exists(tables[0])]
    rebuilt = warehouse.read(CHECKS).withColumn("unverifiable", F.lit(0).cast("bigint"))
    return (
        reduce(DataFrame.unionByName, by_id, rebuilt)
        .withColumn("ratio", F.col("matched") / F.col("compared"))
        .withColumn("time", _time())
        .orderBy("exchange", "symbol", "hour", "kind")
    )


def _compared(warehouse: Warehouse, tables: Sequence[Table]) -> DataFrame:
    """Count the books of one form, scaled or decimal, that are held against golden rows by id."""
    # Where not every change has a row, the newest row is the book only at its own sequence.
    is_book = F.col("book.cadence").isin(*map(str, Cadence)) | (F.col("book.sequence") == F.col("diff"))
    tickers = _as_of(warehouse, tables, GoldenKind.BOOK_TICKER, 1).withColumn("compared", F.col("is_diff"))
    vendor = _as_of(warehouse, tables, GoldenKind.VENDOR_BOOK, warehouse.settings.writing.depth).withColumn(
        "compared", ~F.col("is_diff") & (F.col("diff") == F.col("sequence"))
    )
    equal = F.lit(True)
    for side in _SIDES:
        # A golden row may show fewer levels than the book has, but none only if the book has none.
        shown = F.slice(f"book.{side}", F.lit(1), F.greatest(F.size(f"golden.{side}"), F.lit(1)))
        equal &= shown == F.col(f"golden.{side}")
    unverifiable = F.col("book.status") == Status.UNVERIFIABLE.label
    compared = (
        F.col("compared")
        & is_book
        & (F.col("book.status") != Status.UNSEEDED.label)
        & F.col("golden").isNotNull()
    )
    return (
        tickers.union(vendor)
        .withColumn("equal", F.when(compared, equal))
        .groupBy("exchange", "symbol", "hour", "kind")
        .agg(
            F.count("equal").alias("compared"),
            F.count_if("equal").alias("matched"),
            F.coalesce(F.min(F.when(~F.col("equal"), F.col("sequence"))), F.lit(NOT_GIVEN)).alias(
                "first_divergence"
            ),
            F.count_if(F.col("equal").isNotNull() & unverifiable).alias("unverifiable"),
            F.count_if(~F.col("is_diff")).alias("golden_rows"),
        )
        # Where the recording of tickers has stopped, the last one is no truth any more.
        .where("compared > 0 AND golden_rows > 0")
        .drop("golden_rows")
    )


def _as_of(warehouse: Warehouse, tables: Sequence[Table], kind: GoldenKind, depth: int) -> DataFrame:
    """Give each diff, and each golden row of a kind, the book, golden row and diff that are its newest by id.

    At one id the order is: book, ticker, diff, published book.
    """
    books, golden, events = map(warehouse.read, tables)
    keys = ("exchange", "symbol", "epoch", "sequence")
    top = [F.slice(side, 1, depth).alias(side) for side in _SIDES]
    is_diff = (F.col("event_type") == EventType.BOOK_UPDATE) & ~F.col("data.is_snapshot")
    parts = (
        books.select(
            *keys,
            F.lit(0).alias("rank"),
            F.struct("status", "sequence", "cadence", *top).alias("book"),
            "order_time",
        ),
        golden.where(F.col("kind") == kind).select(
            *keys,
            F.lit(1 if kind is GoldenKind.BOOK_TICKER else 3).alias("rank"),
            F.struct(*top).alias("golden"),
            "source_row",
        ),
        events.where(is_diff).select(*keys, "hour", F.lit(2).alias("rank")),
    )
    timeline = reduce(lambda one, other: one.unionByName(other, allowMissingColumns=True), parts)
    newest = (
        Window.partitionBy("exchange", "symbol", "epoch")
        .orderBy("sequence", "rank", "order_time", "source_row")
        .rowsBetween(Window.unboundedPreceding, 0)
    )
    return timeline.select(
        *keys,
        F.lit(str(kind)).alias("kind"),
        (F.col("rank") == 2).alias("is_diff"),
        F.last("book", ignorenulls=True).over(newest).alias("book"),
        F.last("golden", ignorenulls=True).over(newest).alias("golden"),
        F.last("hour", ignorenulls=True).over(newest).alias("hour"),
        F.last(F.when(F.col("rank") == 2, F.col("sequence")), ignorenulls=True).over(newest).alias("diff"),
    ).where(F.col("rank") != 0)


def _time() -> Any:
    return F.date_format(
        F.timestamp_seconds(F.expr(f"hour div {NANOSECONDS_PER_SECOND}")), "yyyy-MM-dd'T'HH:mm:ss'Z'"
    )


def _worst(judgements: list[Judgement]) -> str:
    return min((judgement.verdict for judgement in judgements), key=_WORST_FIRST.index)


if __name__ == "__main__":
    from deltabook.jobs.cli import main

    main("validate")
