"""Judging a summary table with Great Expectations: one ephemeral context, nothing kept on disk."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

import pandas as pd

# Read when great_expectations is imported: no usage statistics are sent anywhere.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

RAW, EVENTS, BOOKS, FIDELITY = SUITES = ("raw", "events", "books", "fidelity")
"""The suites, in the order of the stages that they judge."""
PASSED, FAILED, ERRORED, NONE = "passed", "failed", "errored", "none"
"""Verdicts. NONE: there is nothing to judge by, which is not a pass."""
WORST_FIRST = (ERRORED, FAILED, PASSED, NONE)
"""The verdict on many is the first of these that one of them has."""
_MOST_SHOWN = 20

Key = tuple[str, str, int]
"""Exchange, symbol and hour."""


@dataclass(frozen=True)
class Judgement:
    """One expectation's result.

    Attributes
    ----------
    expectation : str
        What must hold.
    verdict : str
        One of the four.
    observed : str
        What was seen where it does not hold, or why it could not be evaluated.
    failed : dict
        What was seen, by symbol-hour.
    """

    expectation: str
    verdict: str
    observed: str = ""
    failed: dict[Key, str] = field(default_factory=dict)


@cache
def import_ahead() -> threading.Thread:
    """Import Great Expectations, which takes seconds, in a thread of its own; return the thread."""
    importing = threading.Thread(target=import_module, args=("great_expectations",), daemon=True)
    importing.start()
    return importing


def wait_for_import() -> None:
    """Wait until Great Expectations is imported: a second thread would meet a half of it."""
    import_ahead().join()


def judge(suite: str, summary: pd.DataFrame, expectations: dict[str, Any]) -> list[Judgement]:
    """Judge a summary.

    Parameters
    ----------
    suite : str
        Its name.
    summary : pandas.DataFrame
        A row a symbol-hour, or several: exchange, symbol, hour, time (ISO 8601), and what the expectations
        name; `of` tells the rows of one symbol-hour apart, where there is such a column.
    expectations : dict
        ``{what must hold: Great Expectations expectation of one column}``.

    Returns
    -------
    list of Judgement
        One for each expectation. One that could not be evaluated is errored, not failed; so is every one of
        a summary without rows.
    """
    if summary.empty:
        return [Judgement(text, ERRORED, "no rows to judge") for text in expectations]
    batch = (
        _source()
        .add_dataframe_asset(f"{suite} {id(summary)}")
        .add_batch_definition_whole_dataframe(suite)
        .get_batch({"dataframe": summary})
    )
    return [
        _judgement(text, batch.validate(expectation, result_format="COMPLETE"), summary, expectation.column)
        for text, expectation in expectations.items()
    ]


def none_of(column: str) -> Any:
    """Expect a column of counts to be 0 throughout.

    Parameters
    ----------
    column : str
        Its name.
    """
    return at_most(column, 0)


def at_most(column: str, most: float) -> Any:
    """Expect a column to lie between 0 and a number.

    Parameters
    ----------
    column : str
        Its name.
    most : float
        The greatest value that is well.
    """
    wait_for_import()
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    return ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=most)


@cache
def _source() -> Any:
    wait_for_import()
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context.data_sources.add_pandas("deltabook")


def _judgement(text: str, result: Any, summary: pd.DataFrame, column: str) -> Judgement:
    raised = [info for info in result.exception_info.values() if isinstance(info, dict)]
    if any(info.get("raised_exception") for info in (*raised, result.exception_info)):
        return Judgement(text, ERRORED, json.dumps(result.exception_info, default=str)[:2000])
    if result.success:
        return Judgement(text, PASSED)
    seen: list[str] = []
    failed: dict[Key, str] = {}
    # Great Expectations lists every row that fails, but of their values the first 200 alone.
    for row in summary.loc[result.result["unexpected_index_list"]].to_dict("records"):
        value = row[column]
        shown = f"{row['of']}: {value}" if "of" in row else str(value)
        key = (row["exchange"], row["symbol"], row["hour"])
        failed[key] = f"{failed[key]}, {shown}" if key in failed else shown
        seen.append(f"{row['exchange']} {row['symbol']} {row['time']}: {shown}")
    more = f"; and {len(seen) - _MOST_SHOWN} more" if len(seen) > _MOST_SHOWN else ""
    return Judgement(text, FAILED, "; ".join(seen[:_MOST_SHOWN]) + more, failed)
