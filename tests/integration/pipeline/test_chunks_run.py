"""Rebuild real captures by command: the chunk length and the split into files do not change the books."""

from __future__ import annotations

from collections import Counter

import pytest
from faulted import build, rows

import deltabook.jobs.pipeline.reconstruct
from deltabook.schemas import tables
from deltabook.schemas.names import STATUS_LABELS

pytestmark = pytest.mark.spark

CAPTURES = (
    ("binance", "binance/spot", "10s"),
    ("binance", "binance/usdm", "10s"),
    ("kraken", "kraken", "10s"),
    ("okx", "okx", "1s"),
    ("okx", "okcoin", "10s"),
    ("bybit", "bybit", "1s"),
)
SHARED_OUT = {
    "spark.sql.execution.arrow.maxRecordsPerBatch": "1",
    "spark.sql.shuffle.partitions": "3",
    "spark.sql.adaptive.enabled": "false",
}


@pytest.mark.parametrize(("source", "folder", "chunk"), CAPTURES)
def test_chunks_of_seconds_and_of_a_day_give_the_same_books(
    spark, real_data, tmp_path, monkeypatch, source, folder, chunk
):
    files = sorted(path for path in (real_data / folder).rglob("*") if path.is_file())
    day = build(source, files, tmp_path / "1d", config=settings(tmp_path, "1d"))
    assert day.exit_status == 0, day.said
    monkeypatch.setattr(deltabook.jobs.pipeline.reconstruct, "is_single_pass_faster", lambda *_: False)
    before = {name: spark.conf.get(name) for name in SHARED_OUT}
    try:
        for name, value in SHARED_OUT.items():
            spark.conf.set(name, value)
        half = len(files) // 2
        for part in filter(None, (files[half:], files[:half])):
            build(source, part, tmp_path / chunk, config=settings(tmp_path, chunk))
    finally:
        for name, value in before.items():
            spark.conf.set(name, value)
    assert read_results(tmp_path / chunk) == read_results(tmp_path / "1d")
    hours = [len(rows(tmp_path / name, tables.COVERAGE)) for name in (chunk, "1d")]
    assert hours[0] > hours[1]


def settings(folder, chunk):
    (config := folder / f"{chunk}.yaml").write_text(f"chunk: {chunk}\n")
    return config


def read_results(warehouse):
    """What the tables say, whatever the hours are."""
    kept = {
        table.name: sorted(
            repr({name: value for name, value in row.items() if name not in ("hour", "date", "source_file")})
            for row in rows(warehouse, table)
        )
        for table in (tables.BOOKS, tables.BOOKS_DECIMAL, tables.GAPS)
    }
    checks, covered = Counter(), Counter()
    for row in rows(warehouse, tables.CHECKS):
        checks[row["symbol"], row["kind"], "compared"] += row["compared"]
        checks[row["symbol"], row["kind"], "matched"] += row["matched"]
    for row in rows(warehouse, tables.COVERAGE):
        for name in (*STATUS_LABELS, "silent"):
            covered[row["symbol"], name] += row[name]
    return kept, checks, covered
