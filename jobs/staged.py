"""Staged records: what a source has yielded, surveyed before it goes into the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from deltabook.jobs.warehouse import Warehouse
from deltabook.schemas.frames import RECORDS, STREAM_REFERENCES, SURVEY
from deltabook.schemas.names import CLOCK_TOLERANCE, NOT_GIVEN, EventType, GoldenKind
from deltabook.schemas.tables import GOLDEN, QUARANTINE
from deltabook.udfs.epochs import Restart
from deltabook.udfs.hours import survey_group
from deltabook.udfs.scales import Scales, misfit_batches, rescale_batches

_STREAM = ("exchange", "symbol", "record")
STREAM_OF = {"book_update": EventType.BOOK_UPDATE, "trade": EventType.TRADE, "agg_trade": EventType.TRADE}
"""The stream of events that a kind of record belongs to."""

Stream = tuple[str, str, str]
"""Exchange, symbol and event type."""


def survey(
    warehouse: Warehouse,
    staged: DataFrame,
    known: Callable[[Stream], dict[str, list[int]]],
) -> list[Row]:
    """Survey the staged messages, a task for each stream.

    Parameters
    ----------
    warehouse : Warehouse
        Its session is used.
    staged : DataFrame
        Columns of `records`.
    known : callable
        ``stream -> {"known_epochs", "known_ids", "known_times", "restarts"}`` of `stream_references`.

    Returns
    -------
    list of Row
        Of `survey`.
    """
    file = F.col("_metadata.file_path").alias("file")
    found = staged.where("record NOT IN ('file', 'quarantine')").select(*_STREAM, file).distinct().collect()
    files: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in sorted(found):
        files[row.exchange, row.symbol, row.record].append(row.file)
    if not files:
        return []
    references = []
    for (exchange, symbol, record), names in files.items():
        references.append(
            {
                "exchange": exchange,
                "symbol": symbol,
                "record": record,
                "record_files": names,
                **known((exchange, symbol, STREAM_OF.get(record, ""))),
            }
        )
    return (
        warehouse.frame(STREAM_REFERENCES, references)
        .repartitionByRange(len(references), *_STREAM)
        .groupBy(*_STREAM)
        .applyInPandas(survey_group, SURVEY.ddl)
        .collect()
    )


def per_file(staged: DataFrame) -> dict[str, dict[str, int]]:
    """Count the records of each raw file by where they go."""
    rows = staged.groupBy("source_file", "record").count().collect()
    counted: dict[str, dict[str, int]] = defaultdict(lambda: {"events": 0, "golden": 0, "quarantined": 0})
    column = {"golden": "golden", "quarantine": "quarantined"}
    for row in rows:
        if row.record != "file":
            counted[row.source_file][column.get(row.record, "events")] += row["count"]
    return dict(counted)


def unreadable(staged: DataFrame, counted: dict[str, dict[str, int]]) -> dict[str, str]:
    """Name the files of which nothing could be read, with the first row's reason: they are no captures."""
    files = [
        path for path, row in counted.items() if row["quarantined"] and not row["events"] + row["golden"]
    ]
    if not files:
        return {}
    first = F.struct("source_row", "reason")
    rows = (
        staged.where((F.col("record") == "quarantine") & F.col("source_file").isin(files))
        .groupBy("source_file")
        .agg(F.min(first).alias("first"))
        .collect()
    )
    return {
        row.source_file: f"no line could be read; line {row.first.source_row}: {row.first.reason}"
        for row in rows
    }


def golden(staged: DataFrame, kinds: Sequence[str], restarts: dict[Stream, list[Restart]]) -> DataFrame:
    """Select the golden rows: the feed's own truths, every snapshot, every checksum.

    Parameters
    ----------
    staged : DataFrame
        Columns of `records`, at the instruments' scales.
    kinds : sequence of str
        What there is of golden, snapshot and checksum.
    restarts : dict
        The restarts of each stream's ids, in the order of time.

    Returns
    -------
    DataFrame
        Columns of `golden`.
    """
    is_update = F.col("record") == "book_update"
    named = {
        "golden": F.when(F.col("record") == "golden", F.col("kind")),
        "snapshot": F.when(is_update & F.col("is_snapshot"), F.lit(str(GoldenKind.SNAPSHOT))),
        "checksum": F.when(is_update & (F.col("checksum") != NOT_GIVEN), F.lit(str(GoldenKind.CHECKSUM))),
    }
    rows = staged.withColumn("kind", F.explode(F.array_compact(F.array(*[named[kind] for kind in kinds]))))
    is_checksum = F.col("kind") == str(GoldenKind.CHECKSUM)
    nothing = F.array().cast("array<bigint>")
    for side in ("bid_prices", "bid_sizes", "ask_prices", "ask_sizes"):
        rows = rows.withColumn(side, F.when(is_checksum, nothing).otherwise(F.col(side)))
    checksum = F.when(is_checksum, F.col("checksum")).otherwise(F.lit(NOT_GIVEN))
    return rows.withColumn("checksum", checksum).withColumn("epoch", _epoch(restarts)).select(GOLDEN.names)


def _epoch(restarts: dict[Stream, list[Restart]]) -> Column:
    """Count the restarts of its book's ids that a golden row lies behind, as `udfs.epochs.epochs_of` does."""
    when = F.when(F.col("timestamp") != NOT_GIVEN, F.col("timestamp")).otherwise(F.col("received"))
    epoch = F.lit(0).cast("bigint")
    for (exchange, symbol, event_type), found in restarts.items():
        ours = (F.col("exchange") == exchange) & (F.col("symbol") == symbol)
        for restart in found if event_type == EventType.BOOK_UPDATE else ():
            near = (when >= restart.time - CLOCK_TOLERANCE) & (F.col("sequence") < restart.below)
            behind = near | (when >= restart.time + CLOCK_TOLERANCE)
            epoch += F.when(ours & behind, 1).otherwise(0)
    return epoch


def rescaled(staged: DataFrame, scales: Scales) -> DataFrame:
    """Bring staged messages to the scales given by (exchange, symbol); see `udfs.scales.rescale`."""
    messages = staged.where("record NOT IN ('file', 'quarantine')").select(RECORDS.names)
    return messages.mapInArrow(rescale_batches(scales), RECORDS.ddl)


def misfits(staged: DataFrame, scales: Scales) -> DataFrame:
    """Return the rows of `quarantine` for the messages that those scales cannot hold."""
    messages = staged.where("record NOT IN ('file', 'quarantine')").select(RECORDS.names)
    return messages.mapInArrow(misfit_batches(scales), QUARANTINE.ddl)
