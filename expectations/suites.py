"""Judging a summary table with Great Expectations: one ephemeral context, nothing kept on disk."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

import pandas as pd

# Read when great_expectations is imported: no usage statistics are sent anywhere.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

PASSED, FAILED, ERRORED, NONE = "passed", "failed", "errored", "none"
"""Verdicts. NONE: there was nothing to judge, which is not a pass."""


@dataclass(frozen=True)
class Judgement:
    """One expectation's result: what must hold, the verdict, and what was seen."""

    expectation: str
    verdict: str
    observed: str


def judge(name: str, summary: pd.DataFrame, expectations: dict[str, Any]) -> list[Judgement]:
    """Judge a summary.

    Parameters
    ----------
    name : str
        Name of the suite.
    summary : pandas.DataFrame
        One row a symbol-hour.
    expectations : dict
        ``{what must hold: Great Expectations expectation}``.

    Returns
    -------
    list of Judgement
        One for each expectation; an expectation that could not be evaluated is errored, not failed.
    """
    if summary.empty:
        return [Judgement(text, NONE, "no rows to judge") for text in expectations]
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas(name)
        .add_dataframe_asset(name)
        .add_batch_definition_whole_dataframe(name)
        .get_batch({"dataframe": summary})
    )
    return [
        _judgement(text, batch.validate(expectation), summary) for text, expectation in expectations.items()
    ]


def _judgement(text: str, result: Any, summary: pd.DataFrame) -> Judgement:
    if result.exception_info.get("raised_exception") or any(
        isinstance(info, dict) and info.get("raised_exception") for info in result.exception_info.values()
    ):
        return Judgement(text, ERRORED, json.dumps(result.exception_info, default=str)[:2000])
    if result.success:
        return Judgement(text, PASSED, "")
    rows = (
        result.result.get("unexpected_index_list") or result.result.get("partial_unexpected_index_list") or []
    )
    labels = [
        f"{summary.at[row, 'exchange']} {summary.at[row, 'symbol']} {summary.at[row, 'time']}"
        for row in rows[:20]
    ]
    values = result.result.get("partial_unexpected_list", [])
    return Judgement(text, FAILED, "; ".join(f"{a}: {b}" for a, b in zip(labels, values, strict=False)))
