"""Staged records: what a source has yielded, summed up before it goes into the tables."""

from __future__ import annotations

from collections import defaultdict

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from deltabook.schemas.names import HOUR, NOT_GIVEN
from deltabook.schemas.tables import GOLDEN


def group_ids(staged: DataFrame) -> list[Row]:
    """Summarise the staged messages: id ranges of each file, stream and hour of their times."""
    # `div`, as `/` would go through double and round up just before an hour.
    time_of = F.expr(f"IF(timestamp = {NOT_GIVEN}, {NOT_GIVEN}, timestamp div {HOUR} * {HOUR})")
    given_received = F.when(F.col("received") != NOT_GIVEN, F.col("received"))
    return (
        staged.where("record IN ('book_update', 'trade', 'agg_trade', 'golden')")
        .groupBy(
            "record", "exchange", "symbol", F.col("_metadata.file_path").alias("file"), time_of.alias("time")
        )
        .agg(
            F.min("sequence").alias("first"),
            F.max("sequence").alias("last"),
            F.coalesce(F.min(given_received), F.lit(NOT_GIVEN)).alias("received"),
            F.count("*").alias("messages"),
            F.sum((F.size("bid_prices") + F.size("ask_prices")).cast("bigint")).alias("level_changes"),
            F.sum(F.col("is_snapshot").cast("bigint")).alias("snapshots"),
        )
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
    """Name the files of which nothing could be read, with the first line's reason: they are no captures."""
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


def golden(staged: DataFrame) -> DataFrame:
    """Select the golden rows: the feed's own truths, and every snapshot."""
    return (
        staged.where("record = 'golden' OR (record = 'book_update' AND is_snapshot)")
        .withColumn("kind", F.when(F.col("is_snapshot"), F.lit("snapshot")).otherwise(F.col("kind")))
        .withColumn("epoch", F.lit(0).cast("bigint"))
        .select(GOLDEN.names)
    )
