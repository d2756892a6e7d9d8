"""Suite `fidelity`: rebuilt books equal golden samples, one by one and in distribution."""

from __future__ import annotations

from typing import Any

import pandas as pd

from deltabook.expectations.suites import FIDELITY, NONE, Judgement, judge, wait_for_import
from deltabook.udfs.fidelity.distribution_tests import SIGNIFICANCE


def judge_fidelity(matches: pd.DataFrame, tests: pd.DataFrame, minimum_match: float) -> list[Judgement]:
    """Judge match ratios and distribution tests.

    Parameters
    ----------
    matches : pandas.DataFrame
        One row for each chunk and kind of golden row: exchange, symbol, hour, time, `of` (the kind) and
        `ratio` (the share of books that are equal).
    tests : pandas.DataFrame
        One row for each chunk, kind and tested metric: exchange, symbol, hour, time, `of` (kind and metric)
        and `adjusted_p` (corrected p value).
    minimum_match : float
        Ratio that passes, exclusive, from 0 to 1.

    Returns
    -------
    list of Judgement
        One judgement for each rule, with the verdict `none` if there is no golden sample.
    """
    wait_for_import()
    from great_expectations.expectations import ExpectColumnValuesToBeBetween, ExpectColumnValuesToNotBeNull

    def expect_above(column: str, limit: float) -> ExpectColumnValuesToBeBetween:
        return ExpectColumnValuesToBeBetween(column=column, min_value=limit, strict_min=True, max_value=1)

    def judge_frame(frame: pd.DataFrame, expectations: dict[str, Any]) -> list[Judgement]:
        if frame.empty:
            return [Judgement(text, NONE, "no golden samples") for text in expectations]
        return judge(FIDELITY, frame, expectations)

    # Ranges ignore missing values, so these need a rule of their own.
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
