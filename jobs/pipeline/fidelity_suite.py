"""Run the suite `fidelity`, which compares rebuilt books with golden rows.

A golden row is independent data about a book, such as the best bid and ask that the exchange itself sent.
The suite compares in two ways, for each chunk and for each whole symbol:

- Row by row: do the prices and sizes of a book equal the prices and sizes of the golden row with the id of
  the book?
- In distribution: does a metric, such as the spread, have the same distribution in rebuilt books and in
  golden rows?
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import pandas as pd

from deltabook.expectations import suites
from deltabook.expectations.fidelity import judge_fidelity
from deltabook.expectations.suites import FAILED, NONE, PASSED
from deltabook.jobs.pipeline.suite_runs import (
    Counts,
    SuiteRun,
    SuiteVerdict,
    get_counts,
    get_key,
    get_key_columns,
)
from deltabook.jobs.tables.stored import CHUNK_KEY_COLUMNS
from deltabook.jobs.warehouse.tasks import GroupedWork, sum_file_sizes
from deltabook.schemas.frames import JUDGED, TOTAL_REFERENCES
from deltabook.schemas.names import ALL_HOURS, NOT_GIVEN
from deltabook.schemas.rows import JudgedRow, TotalReference
from deltabook.schemas.tables import both
from deltabook.schemas.validation_tables import FIDELITY, MISMATCHES, SAMPLES
from deltabook.udfs.fidelity.match_counts import make_match_metric
from deltabook.udfs.spark.fidelity_groups import judge_groups
from deltabook.udfs.spark.fidelity_totals import pool_group
from deltabook.udfs.spark.inspect_groups import EMPTY_RESULT


def judge_fidelity_suite(suite_run: SuiteRun) -> list[SuiteVerdict]:
    """Judge whether the rebuilt books of each chunk equal the golden rows, and return the verdicts.

    Parameters
    ----------
    suite_run : SuiteRun
        The chunks to judge.

    Returns
    -------
    list of SuiteVerdict
        One verdict for each chunk, and one verdict for each symbol that has several chunks. The verdict is
        `none` instead of `passed` if no golden row of the chunk or symbol could be compared.
    """
    warehouse, settings = suite_run.warehouse, suite_run.warehouse.settings
    results = suite_run.apply(judge_groups(str(warehouse.root), settings.depth, settings.minimum_match))
    for table in (*both(MISMATCHES), SAMPLES):
        warehouse.add(table, results, suite_run.keys)
    rows = [JudgedRow._make(row) for row in results]
    totals = _compare_whole_symbols(suite_run)
    counts = get_counts(rows)
    metrics = [row for row in (*rows, *totals) if row.table == FIDELITY.name]
    metrics += _make_check_metrics(suite_run, counts)
    _count_tests(metrics, counts)
    _write_metrics(suite_run, metrics)
    frame = pd.DataFrame(
        [
            get_key_columns(get_key(row)) | row._asdict() | {"of": _describe_metric(row)}
            for row in metrics
            if row.compared
        ],
        columns=[*FIDELITY.names, "time", "of"],
    )
    matches = frame[frame["metric"] == "match"].rename(columns={"value": "ratio"})
    judgements = judge_fidelity(matches, frame[frame["p_value"].notna()], settings.minimum_match)
    whole_symbols = sorted({get_key(row) for row in totals})
    counts |= {key: {} for key in whole_symbols}
    keys = [*suite_run.keys, *whole_symbols]
    verdicts = suite_run.conclude(suites.FIDELITY, keys, counts, judgements, len(frame))
    with_golden = {get_key(row) for row in metrics if row.compared}
    return [
        verdict._replace(verdict=NONE)
        if verdict.verdict == PASSED and verdict.key not in with_golden
        else verdict
        for verdict in verdicts
    ]


def _compare_whole_symbols(suite_run: SuiteRun) -> list[JudgedRow]:
    """Pool the samples of all chunks of each symbol, and return metrics of the pooled distributions.

    Symbols with a single file of samples are left out, because pooling one file changes nothing.
    """
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for key, names in suite_run.warehouse.data_files(SAMPLES).items():
        files[key[:2]] += names
    references: list[TotalReference] = [
        {"exchange": exchange, "symbol": symbol, "sample_files": files[exchange, symbol]}
        for exchange, symbol in sorted({key[:2] for key in suite_run.keys})
        if len(files[exchange, symbol]) > 1
    ]
    costs = sum_file_sizes(references, "sample_files")
    work = GroupedWork(TOTAL_REFERENCES, references, CHUNK_KEY_COLUMNS[:2], pool_group, JUDGED, costs)
    return [JudgedRow._make(row) for row in suite_run.warehouse.apply(work)]


def _make_check_metrics(suite_run: SuiteRun, counts: Counts) -> list[JudgedRow]:
    """Return a metric `match` for each row of the table `checks`, and add the row's counts to `counts`.

    A row of `checks` says how many books were compared with the feed's own checksums or snapshots, and how
    many of these books were equal.
    """
    metrics = []
    minimum = suite_run.warehouse.settings.minimum_match
    for key in suite_run.keys:
        for check in suite_run.inputs.checks[key]:
            compared, matched = check["compared"], check["matched"]
            counts[key] |= {f"{check['kind']} compared": compared, f"{check['kind']} matched": matched}
            metric = {**EMPTY_RESULT, **make_match_metric("match", 0, compared, matched, minimum)}
            exchange, symbol, chunk = key
            row = JudgedRow._make(metric[name] for name in JudgedRow._fields)._replace(
                exchange=exchange,
                symbol=symbol,
                hour=chunk,
                kind=check["kind"],
                first_divergence=check["first_divergence"],
                unverifiable=0,
            )
            metrics.append(row)
    return metrics


def _count_tests(metrics: Iterable[JudgedRow], counts: Counts) -> None:
    """Add to the counts of each chunk how many distribution tests it had: all tests, passed and failed."""
    for row in metrics:
        if row.hour != ALL_HOURS and row.verdict in (PASSED, FAILED) and row.matched == NOT_GIVEN:
            numbers = counts[get_key(row)]
            for name in ("tests", f"tests {row.verdict}"):
                numbers[name] = numbers.get(name, 0) + 1


def _write_metrics(suite_run: SuiteRun, metrics: Iterable[JudgedRow]) -> None:
    """Append metrics to the table `fidelity`."""
    rows = [{"run_id": suite_run.run.run_id} | row._asdict() for row in metrics]
    suite_run.warehouse.append(FIDELITY, [{name: row[name] for name in FIDELITY.names} for row in rows])


def _describe_metric(row: JudgedRow) -> str:
    """Return the name of a metric, such as `book_ticker spread`, for use in the reasons of a verdict."""
    if row.metric == "match":
        if row.first_divergence == NOT_GIVEN:
            return row.kind
        return f"{row.kind} (first divergence at {row.first_divergence})"
    level = f" {row.level}" if row.level else ""
    return f"{row.kind} {row.metric}{level}"
