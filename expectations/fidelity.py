"""Suite `fidelity`: rebuilt books equal golden rows one by one, and have the same distributions.

A golden row is an independent truth about a book. The texts of the rules call it a golden sample.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from deltabook.expectations.suites import FIDELITY, NONE, Judgement, judge, wait_for_import
from deltabook.udfs.fidelity.distribution_tests import SIGNIFICANCE

if TYPE_CHECKING:
    from great_expectations.expectations import ExpectColumnValuesToBeBetween
    from great_expectations.expectations.expectation import ColumnMapExpectation


def judge_fidelity(matches: pd.DataFrame, tests: pd.DataFrame, minimum_match: float) -> list[Judgement]:
    """Judge whether books equal their golden rows, and whether both have the same distributions.

    Parameters
    ----------
    matches : pandas.DataFrame
        One row for each chunk and kind of golden row, with the columns exchange, symbol, hour, time, `of`
        (the kind) and `ratio` (the share of books that equal their golden rows).
    tests : pandas.DataFrame
        One row for each chunk, kind of golden row and tested metric, with the columns exchange, symbol, hour,
        time, `of` (kind and metric) and `adjusted_p` (corrected p value).
    minimum_match : float
        Limit for the ratio, from 0 to 1. A ratio above the limit passes.

    Returns
    -------
    list of Judgement
        One judgement for each rule. The verdict of a rule is `none` if its frame has no rows.
    """
    wait_for_import()
    from great_expectations.expectations import ExpectColumnValuesToBeBetween, ExpectColumnValuesToNotBeNull

    def expect_above(column: str, limit: float) -> ExpectColumnValuesToBeBetween:
        return ExpectColumnValuesToBeBetween(column=column, min_value=limit, strict_min=True, max_value=1)

    def judge_frame(frame: pd.DataFrame, expectations: dict[str, ColumnMapExpectation]) -> list[Judgement]:
        if frame.empty:
            return [Judgement(text, NONE, "no golden samples") for text in expectations]
        return judge(FIDELITY, frame, expectations)

    # A range check ignores missing values, so missing values need a separate rule.
    return [
        *judge_frame(
            matches,
            {
                f"more than {minimum_match:.2%} of books equal their golden samples": expect_above(
                    "ratio", minimum_match
                ),
                "every match ratio is a number": ExpectColumnValuesToNotBeNull(column="ratio"),
            },
        ),
        *judge_frame(
            tests,
            {
                f"Kolmogorov-Smirnov p above {SIGNIFICANCE}": expect_above("adjusted_p", SIGNIFICANCE),
                "every p is a number": ExpectColumnValuesToNotBeNull(column="adjusted_p"),
            },
        ),
    ]
