"""Suite `raw`: messages are in range, complete and in order, and have origin times."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import RAW, Judgement, expect_at_most, expect_zero, judge


def judge_raw(summary: pd.DataFrame, most_late: float, most_untimed: float) -> list[Judgement]:
    """Judge the messages of chunks.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row for each chunk of a symbol, with the columns exchange, symbol, hour and time. Counts:
        `out_of_range` (prices not above zero, negative sizes, trades of size 0) and `damaged` (messages of
        which a part could not be read). Shares from 0 to 1: `late` (messages that arrived after one with a
        later id), `untimed` (messages without an origin time, or with one before 2009, in a stream that has
        origin times) and `regressing` (messages whose origin time is before that of the previous message by
        id).
    most_late : float
        Greatest share of late messages that passes, from 0 to 1.
    most_untimed : float
        Greatest share of untimed messages, and of regressing messages, that passes, from 0 to 1.

    Returns
    -------
    list of Judgement
        One judgement for each rule.
    """
    return judge(
        RAW,
        summary,
        {
            "prices and sizes in range": expect_zero("out_of_range"),
            "no part that could not be read": expect_zero("damaged"),
            f"no more than {most_late:.2%} of messages late": expect_at_most("late", most_late),
            f"no more than {most_untimed:.2%} without an origin time": expect_at_most(
                "untimed", most_untimed
            ),
            f"no more than {most_untimed:.2%} of origin times fall back": expect_at_most(
                "regressing", most_untimed
            ),
        },
    )
