"""Suite `events`: the streams of a chunk have no gaps, by ids and checksums, and are in order."""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import EVENTS, Judgement, expect_zero, judge


def judge_events(summary: pd.DataFrame) -> list[Judgement]:
    """Judge the continuity of chunks.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row for each chunk of a symbol, with the columns exchange, symbol, hour, time and these counts:
        `gaps` (of book updates: missing ids, snapshots that are missing or do not connect, wrong checksums,
        unreadable rows), `trade_gaps` (gaps in trade ids), `unordered` (events whose id is below that of the
        event before), `out_of_time` (events whose order_time is before that of the event before).

    Returns
    -------
    list of Judgement
        One judgement for each rule.
    """
    return judge(
        EVENTS,
        summary,
        {
            "no gaps": expect_zero("gaps"),
            "no missing trades": expect_zero("trade_gaps"),
            "ids ascend": expect_zero("unordered"),
            "order times ascend": expect_zero("out_of_time"),
        },
    )
