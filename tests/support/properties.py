"""Choose the number of cases of a property test, and whether they are the same in each run.

By default, each run has the same cases. With DELTABOOK_LONG=N, a property test has N times as many cases.
These cases are random in each run, or follow from the seed in `pytest --hypothesis-seed`.
"""

from __future__ import annotations

import os

from events import COMPILED
from hypothesis import HealthCheck, settings

LONG = int(os.environ.get("DELTABOOK_LONG", "0"))


def cases(count: int, uncompiled: int | None = None) -> settings:
    """Try a property on so many cases, with no limit of time for one.

    Parameters
    ----------
    count
        Where kernels are compiled.
    uncompiled
        Where they run as plain Python, about a hundred times slower; a thirtieth if not given.
    """
    if not COMPILED:
        count = uncompiled or max(5, count // 30)
    return settings(
        max_examples=count * max(LONG, 1),
        derandomize=not LONG,
        database=None,
        deadline=None,
        # It counts the seconds that drawing takes, which a busy machine multiplies.
        suppress_health_check=[HealthCheck.too_slow],
    )
