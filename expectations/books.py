"""Suite `books`: rows are in time order, show possible books, and have the best status that the feed allows.

The status says how far a book is proven. A feed with message ids can prove more than a feed without.
"""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import BOOKS, WORSE_STATUS, Judgement, expect_zero, judge


def judge_books(summary: pd.DataFrame) -> list[Judgement]:
    """Judge the rows of `books` of many chunks.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row for each chunk of a symbol, with the columns exchange, symbol, hour, time and five counts of
        rows of `books`:

        - `out_of_order`: the order_time is before the order_time of the previous row by id.
        - `crossed_unmarked`: the best bid is above the best ask, and the status does not say that the book
          may be wrong.
        - `not_monotone`: a price is equal to or better than the price of the level before it.
        - `not_positive`: a price or size is zero or less.
        - `worse`: the status is worse than the feed allows. If ids link the feed's messages, this is
          `suspect`. If no row of the chunk has a status from `unverifiable` up, all rows count.

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
            "no crossed books": expect_zero("crossed_unmarked"),
            "prices worse level by level": expect_zero("not_monotone"),
            "prices and sizes above zero": expect_zero("not_positive"),
            WORSE_STATUS: expect_zero("worse"),
        },
    )
