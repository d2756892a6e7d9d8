"""Suite `fidelity`: rebuilt books equal the golden samples, one by one and in distribution."""

from __future__ import annotations

from typing import Any

import pandas as pd

from deltabook.expectations.suites import FIDELITY, NONE, Judgement, judge, wait_for_import
from deltabook.udfs.fidelity.distribution_tests import SIGNIFICANCE


def judge_fidelity(matches: pd.DataFrame, tests: pd.DataFrame, minimum_match: float) -> list[Judgement]:
    """Judge the match ratios and the tests.

    Parameters
    ----------
    matches : pandas.DataFrame
        One row a symbol-hour and kind of golden row: exchange, symbol, hour, time, of (the kind), `ratio`.
    tests : pandas.DataFrame
        One row a symbol-hour, kind and metric that was tested: exchange, symbol, hour, time, of (kind and
        metric), `adjusted_p`.
    minimum_match : float
        The ratio must be above this.

    Returns
    -------
    list of Judgement
        One for each rule; verdict `none` where there is no golden sample.
    """
    wait_for_import()
    from great_expectations.expectations import ExpectColumnValuesToBeBetween, ExpectColumnValuesToNotBeNull

    def above(column: str, least: float) -> ExpectColumnValuesToBeBetween:
        return ExpectColumnValuesToBeBetween(column=column, min_value=least, strict_min=True, max_value=1)

    def judged(frame: pd.DataFrame, expectations: dict[str, Any]) -> list[Judgement]:
        if frame.empty:
            return [Judgement(text, NONE, "no golden samples") for text in expectations]
        return judge(FIDELITY, frame, expectations)

    # A range lets missing values through.
    return [
        *judged(
            matches,
            {
                f"more than {minimum_match:.2%} of books equal their golden samples": above(
                    "ratio", minimum_match
                ),
                "every match ratio is a number": ExpectColumnValuesToNotBeNull(column="ratio"),
            },
        ),
        *judged(
            tests,
            {
                f"Kolmogorov-Smirnov p above {SIGNIFICANCE}": above("adjusted_p", SIGNIFICANCE),
                "every p is a number": ExpectColumnValuesToNotBeNull(column="adjusted_p"),
            },
        ),
    ]
