"""Suite `books`: every row of a symbol-hour is a possible book, in order, as proven as its feed allows."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import BOOKS, Judgement, judge, none_of


def judge_books(summary: pd.DataFrame) -> list[Judgement]:
    """Judge the rows of books of symbol-hours.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row a symbol-hour: exchange, symbol, hour, time, and the counts `out_of_order` (rows whose
        order_time falls behind the one before in id order), `crossed`, `not_monotone` (rows with a price
        that is not worse than the one above it), `not_positive` (rows with a size or price that is not
        above zero) and `worse` (rows whose status is worse than the feed can prove: `suspect`; an unseeded
        start is not counted unless the whole hour is unseeded). An `unverifiable` row of a feed without ids
        is no worse than its feed.

    Returns
    -------
    list of Judgement
        One for each rule.
    """
    return judge(
        BOOKS,
        summary,
        {
            "books in order": none_of("out_of_order"),
            "no crossed books": none_of("crossed"),
            "prices worse level by level": none_of("not_monotone"),
            "prices and sizes above zero": none_of("not_positive"),
            "no status worse than the feed can prove": none_of("worse"),
        },
    )
