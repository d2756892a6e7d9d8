"""Suite `events`: ids and checksums show no gap in the streams of a chunk, and events are in order."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import EVENTS, GAPS, MISSING_TRADES, Judgement, expect_zero, judge


def judge_events(summary: pd.DataFrame) -> list[Judgement]:
    """Judge the continuity and the order of the events of many chunks.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row for each chunk of a symbol, with the columns exchange, symbol, hour, time and four counts:

        - `gaps`: missing ids of book updates, snapshots that are missing or do not connect to the next
          update, wrong checksums, and unreadable rows.
        - `trade_gaps`: gaps in trade ids.
        - `unordered`: events whose id is below the id of the previous event.
        - `out_of_time`: events whose order_time is before the order_time of the previous event.

    Returns
    -------
    list of Judgement
        One judgement for each rule.
    """
    return judge(
        EVENTS,
        summary,
        {
            GAPS: expect_zero("gaps"),
            MISSING_TRADES: expect_zero("trade_gaps"),
            "ids ascend": expect_zero("unordered"),
            "order times ascend": expect_zero("out_of_time"),
        },
    )
