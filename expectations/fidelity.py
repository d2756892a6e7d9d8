"""Suite `fidelity`: rebuilt books equal the golden samples."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import Judgement, judge

SUITE = "fidelity"


def judge_fidelity(summary: pd.DataFrame, minimum_match: float) -> list[Judgement]:
    """Judge the match ratios.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row a symbol-hour and kind of golden row: exchange, symbol, time, kind, `compared`, `ratio`.
    minimum_match : float
        The ratio must be above this.

    Returns
    -------
    list of Judgement
        One for each rule; verdict `none` where there is no golden sample.
    """
    from great_expectations.expectations import ExpectColumnValuesToBeBetween, ExpectColumnValuesToNotBeNull

    above = ExpectColumnValuesToBeBetween(
        column="ratio", min_value=minimum_match, strict_min=True, max_value=1
    )
    return judge(
        SUITE,
        summary,
        {
            f"more than {minimum_match:.2%} of books equal their golden samples": above,
            # A range lets missing values through.
            "every match ratio is a number": ExpectColumnValuesToNotBeNull(column="ratio"),
        },
    )
