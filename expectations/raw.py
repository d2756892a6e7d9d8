"""Suite `raw`: what was read is in range, was read whole, in order, and has its times."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import RAW, Judgement, at_most, judge, none_of


def judge_raw(summary: pd.DataFrame, most_late: float, most_untimed: float) -> list[Judgement]:
    """Judge the messages of symbol-hours.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row a symbol-hour: exchange, symbol, hour, time; the counts `out_of_range` (prices that are not
        above zero, negative sizes, trades of nothing) and `damaged` (messages that lack a part which could
        not be read); the shares `late` (messages that arrived after one with a later id), `untimed` (no
        origin time, or one before 2009, in a stream that has some; ids keep their place) and
        `regressing` (an origin time before that of the message before, by id).
    most_late, most_untimed : float
        The greatest shares that are well.

    Returns
    -------
    list of Judgement
        One for each rule.
    """
    return judge(
        RAW,
        summary,
        {
            "prices and sizes in range": none_of("out_of_range"),
            "no part that could not be read": none_of("damaged"),
            f"no more than {most_late:.2%} of messages late": at_most("late", most_late),
            f"no more than {most_untimed:.2%} without an origin time": at_most("untimed", most_untimed),
            f"no more than {most_untimed:.2%} of origin times fall back": at_most("regressing", most_untimed),
        },
    )
