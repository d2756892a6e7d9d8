"""Judging a summary table with Great Expectations: one ephemeral context, nothing kept on disk."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import pandas as pd

# Read when great_expectations is imported: no usage statistics are sent anywhere.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

PASSED, FAILED, ERRORED, NONE = "passed", "failed", "errored", "none"
"""Verdicts. NONE: there was nothing to judge, which is not a pass."""
_MOST_SHOWN = 20


@dataclass(frozen=True)
class Judgement:
    """One expectation's result: what must hold, the verdict, and what was seen."""

    expectation: str
    verdict: str
    observed: str


def import_ahead() -> None:
    """Import Great Expectations, which takes seconds, in a thread of its own."""
    threading.Thread(target=import_module, args=("great_expectations",), daemon=True).start()


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
        _judgement(text, batch.validate(expectation, result_format="COMPLETE"), summary)
        for text, expectation in expectations.items()
    ]


def _judgement(text: str, result: Any, summary: pd.DataFrame) -> Judgement:
    raised = [info for info in result.exception_info.values() if isinstance(info, dict)]
    if any(info.get("raised_exception") for info in (*raised, result.exception_info)):
        return Judgement(text, ERRORED, json.dumps(result.exception_info, default=str)[:2000])
    if result.success:
        return Judgement(text, PASSED, "")
    rows = result.result["unexpected_index_list"]
    seen = [
        " ".join(str(summary.at[row, name]) for name in ("exchange", "symbol", "time")) + f": {value}"
        for row, value in zip(rows, result.result["unexpected_list"], strict=True)
    ]
    more = f"; and {len(seen) - _MOST_SHOWN} more" if len(seen) > _MOST_SHOWN else ""
    return Judgement(text, FAILED, "; ".join(seen[:_MOST_SHOWN]) + more)
