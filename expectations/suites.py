"""Judge chunks with Great Expectations, from a summary table of counts or shares.

A summary table has one or several rows for each chunk of a symbol. All suites share one Great Expectations
context, which stores nothing on disk.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from great_expectations.core import ExpectationValidationResult
    from great_expectations.datasource.fluent import PandasDatasource
    from great_expectations.expectations import ExpectColumnValuesToBeBetween
    from great_expectations.expectations.expectation import ColumnMapExpectation

# great_expectations must not send usage statistics. It reads this variable at its import.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

RAW, EVENTS, BOOKS, FIDELITY = SUITES = ("raw", "events", "books", "fidelity")
"""Names of the suites, in the order of the stages that they judge."""
PASSED, FAILED, ERRORED, NONE = "passed", "failed", "errored", "none"
"""Verdicts. ERRORED: the rule could not be evaluated. NONE: there was nothing to compare with."""
WORST_FIRST = (ERRORED, FAILED, PASSED, NONE)
"""All verdicts, in order of precedence. Several verdicts are summarized by the first of these that occurs."""
DAMAGED, GAPS, MISSING_TRADES = "no part that could not be read", "no gaps", "no missing trades"
WORSE_STATUS = "no status worse than the feed can prove"
MARKED_RULES = frozenset((DAMAGED, GAPS, MISSING_TRADES, WORSE_STATUS))
"""Rules for faults that the status of each affected book shows. The other books of the chunk are right."""
_MAX_SHOWN = 20
"""Maximum number of failing rows that the text of a judgement lists."""

Key = tuple[str, str, int]
"""Exchange, symbol and start of the chunk, ns since 1970 UTC."""


@dataclass(frozen=True)
class Judgement:
    """The result of one expectation.

    Attributes
    ----------
    expectation : str
        Text of the rule.
    verdict : str
        `passed`, `failed`, `errored` or `none`.
    observed : str
        The failing values with their chunks, or the reason why the rule could not be evaluated; empty if the
        rule passed.
    failed : dict of (str, str, int) to str
        Failing values of each chunk as text, by exchange, symbol and start of the chunk (ns since 1970 UTC).
    """

    expectation: str
    verdict: str
    observed: str = ""
    failed: dict[Key, str] = field(default_factory=dict)


@cache
def start_import() -> threading.Thread:
    """Start a thread that imports Great Expectations, which takes seconds; return the thread."""
    importing = threading.Thread(target=import_module, args=("great_expectations",), daemon=True)
    importing.start()
    return importing


def wait_for_import() -> None:
    """Wait until Great Expectations is imported. Importing it in two threads at once would fail."""
    start_import().join()


def judge(
    suite: str, summary: pd.DataFrame, expectations: Mapping[str, ColumnMapExpectation]
) -> list[Judgement]:
    """Judge a summary table by several expectations.

    Parameters
    ----------
    suite : str
        Name of the suite.
    summary : pandas.DataFrame
        One or several rows for each chunk, with the columns exchange, symbol, hour, time (ISO 8601), and the
        columns that the expectations check. An optional column `of` distinguishes the rows of one chunk.
    expectations : mapping
        Maps the text of each rule to a Great Expectations object that checks one column.

    Returns
    -------
    list of Judgement
        One judgement for each expectation. The verdict of an expectation that could not be evaluated is
        `errored`, not `failed`. If the summary has no rows, all verdicts are `errored`.
    """
    if summary.empty:
        return [Judgement(text, ERRORED, "no rows to judge") for text in expectations]
    batch = (
        _get_data_source()
        .add_dataframe_asset(f"{suite} {id(summary)}")
        .add_batch_definition_whole_dataframe(suite)
        .get_batch({"dataframe": summary})
    )
    return [
        _make_judgement(
            text, batch.validate(expectation, result_format="COMPLETE"), summary, expectation.column
        )
        for text, expectation in expectations.items()
    ]


def expect_zero(column: str) -> ExpectColumnValuesToBeBetween:
    """Return an expectation that a column of counts is 0 in every row.

    Parameters
    ----------
    column : str
        Name of the column.
    """
    return expect_at_most(column, 0)


def expect_at_most(column: str, limit: float) -> ExpectColumnValuesToBeBetween:
    """Return an expectation that a column is between 0 and a limit in every row.

    Parameters
    ----------
    column : str
        Name of the column.
    limit : float
        Largest value that passes.
    """
    wait_for_import()
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    return ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=limit)


@cache
def _get_data_source() -> PandasDatasource:
    """Return the data source that passes pandas frames to Great Expectations."""
    wait_for_import()
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context.data_sources.add_pandas("deltabook")


def _make_judgement(
    text: str, result: ExpectationValidationResult, summary: pd.DataFrame, column: str
) -> Judgement:
    """Return the judgement for one result of Great Expectations. `column` is the column that it checked."""
    nested = [info for info in result.exception_info.values() if isinstance(info, dict)]
    if any(info.get("raised_exception") for info in (*nested, result.exception_info)):
        return Judgement(text, ERRORED, json.dumps(result.exception_info, default=str)[:2000])
    if result.success:
        return Judgement(text, PASSED)
    observed: list[str] = []
    failed: dict[Key, str] = {}
    # Great Expectations lists the indices of all failing rows, but only the first 200 values.
    for row in summary.loc[result.result["unexpected_index_list"]].to_dict("records"):
        value = row[column]
        shown = f"{row['of']}: {value}" if "of" in row else str(value)
        key = (row["exchange"], row["symbol"], row["hour"])
        failed[key] = f"{failed[key]}, {shown}" if key in failed else shown
        observed.append(f"{row['exchange']} {row['symbol']} {row['time']}: {shown}")
    more = f"; and {len(observed) - _MAX_SHOWN} more" if len(observed) > _MAX_SHOWN else ""
    return Judgement(text, FAILED, "; ".join(observed[:_MAX_SHOWN]) + more, failed)
