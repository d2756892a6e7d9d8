"""Suite `books`: book rows of a chunk are possible, in time order, and proven as far as the feed allows."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import BOOKS, Judgement, expect_zero, judge


def judge_books(summary: pd.DataFrame) -> list[Judgement]:
    """Judge the book rows of chunks.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row for each chunk of a symbol, with the columns exchange, symbol, hour, time and these counts
        of rows: `out_of_order` (order_time is before that of the previous row by id), `crossed`,
        `not_monotone` (a price is not worse than the price of the level above), `not_positive` (a price or
        size is not above zero), `worse` (the status is worse than the feed allows: `suspect`, or `unseeded`
        if the whole chunk is unseeded). A feed without ids allows `unverifiable`.

    Returns
    -------
    list of Judgement
        One judgement for each rule.
    """
    return judge(
        BOOKS,
        summary,
        {
            "books in order": expect_zero("out_of_order"),
            "no crossed books": expect_zero("crossed"),
            "prices worse level by level": expect_zero("not_monotone"),
            "prices and sizes above zero": expect_zero("not_positive"),
            "no status worse than the feed can prove": expect_zero("worse"),
        },
    )
