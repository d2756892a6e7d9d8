"""Suite `continuity`: the books of every symbol-hour are unbroken, in order, not crossed, and proven."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import Judgement, judge

SUITE = "continuity"


def judge_continuity(summary: pd.DataFrame) -> list[Judgement]:
    """Judge what Spark counted.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row a symbol-hour: exchange, symbol, time, and the counts `gaps` (rows of `gaps`),
        `out_of_order` (rows whose order_time falls behind the one before in id order), `crossed`,
        and `worse` (rows whose status is worse than the feed can prove; an unseeded start is not
        counted unless the whole hour is unseeded). An `unverifiable` row of a feed without ids is
        no worse than its feed.

    Returns
    -------
    list of Judgement
        One for each rule.
    """
    from great_expectations.expectations import ExpectColumnValuesToBeBetween

    def none_of(column: str) -> ExpectColumnValuesToBeBetween:
        return ExpectColumnValuesToBeBetween(column=column, min_value=0, max_value=0)

    return judge(
        SUITE,
        summary,
        {
            "no gaps": none_of("gaps"),
            "books in order": none_of("out_of_order"),
            "no crossed books": none_of("crossed"),
            "no status worse than the feed can prove": none_of("worse"),
        },
    )
