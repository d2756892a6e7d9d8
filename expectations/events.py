"""Suite `events`: each stream of a symbol-hour is unbroken, by its ids and checksums, and in order."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import EVENTS, Judgement, judge, none_of


def judge_events(summary: pd.DataFrame) -> list[Judgement]:
    """Judge the continuity of symbol-hours.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row a symbol-hour: exchange, symbol, hour, time, and the counts `gaps` (of book updates: holes,
        snapshots missing or not connected, wrong checksums, unreadable rows), `trade_gaps` (holes in trade
        ids), `unordered` (events whose id does not follow that of the one before) and `out_of_time` (events
        whose order_time falls behind).

    Returns
    -------
    list of Judgement
        One for each rule.
    """
    return judge(
        EVENTS,
        summary,
        {
            "no gaps": none_of("gaps"),
            "no missing trades": none_of("trade_gaps"),
            "ids ascend": none_of("unordered"),
            "order times ascend": none_of("out_of_time"),
        },
    )
