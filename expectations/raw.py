"""Suite `raw`: numbers are in range, and messages are complete, in order, and have origin times.

The origin time is the exchange's own time of a message (column `timestamp`).
"""

from __future__ import annotations

import pandas as pd

from deltabook.expectations.suites import DAMAGED, RAW, Judgement, expect_at_most, expect_zero, judge


def judge_raw(summary: pd.DataFrame, most_late: float, most_untimed: float) -> list[Judgement]:
    """Judge the messages of many chunks.

    Parameters
    ----------
    summary : pandas.DataFrame
        One row for each chunk of a symbol, with the columns exchange, symbol, hour and time, and these:

        - Counts. `out_of_range`: prices of zero or less, negative sizes, and trades of size 0. `damaged`:
          messages of which a part could not be read.
        - Shares from 0 to 1. `late`: messages that arrived after a message with a later id. `untimed`:
          messages whose origin time is missing or before 2009, in a stream that has origin times.
          `regressing`: messages whose origin time is before the origin time of the previous message by id.
    most_late : float
        Largest share of late messages that passes, from 0 to 1.
    most_untimed : float
        Largest share of untimed messages that passes, from 0 to 1. The same limit holds for regressing
        messages.

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
            DAMAGED: expect_zero("damaged"),
            f"no more than {most_late:.2%} of messages late": expect_at_most("late", most_late),
            f"no more than {most_untimed:.2%} without an origin time": expect_at_most(
                "untimed", most_untimed
            ),
            f"no more than {most_untimed:.2%} of origin times fall back": expect_at_most(
                "regressing", most_untimed
            ),
        },
    )
