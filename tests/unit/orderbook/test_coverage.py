"""Coverage counts each interval between updates once: up to a limit for a status, beyond it as silence."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.names import HOUR, NOT_GIVEN, STATUS_LABELS, Status
from deltabook.udfs.orderbook.coverage import Coverage

SILENCE = 10
UPDATES = st.lists(st.tuples(st.integers(0, 25), st.sampled_from(list(Status))), min_size=1, max_size=30)


@cases(100)
@given(updates=UPDATES, cuts=st.sets(st.integers(0, 30)), hours=st.integers(1, 3))
def test_time_is_that_of_a_plain_count_whatever_the_batches(updates, cuts, hours):
    times = np.cumsum([length for length, _ in updates]).astype(np.int64)
    status = np.array([code for _, code in updates], dtype=np.int8)
    hour_of = np.sort(np.arange(len(times)) % hours) * HOUR
    covering, silences, last = Coverage(SILENCE, NOT_GIVEN), [], NOT_GIVEN
    bounds = sorted(
        {0, len(times), *(cut for cut in cuts if cut < len(times)), *np.flatnonzero(np.diff(hour_of)) + 1}
    )
    for start, end in pairwise(bounds):
        found = covering.count_updates(int(hour_of[start]), times[start:end], last, status[start:end])
        silences += [(start + at, before) for at, before in found]
        last = int(status[end - 1])
    plain: dict[int, dict[str, int]] = {}
    for index, (time, hour) in enumerate(zip(times.tolist(), hour_of.tolist(), strict=True)):
        row = plain.setdefault(hour, dict.fromkeys((*STATUS_LABELS, "silent"), 0) | {"from_time": time})
        row["to_time"] = time
        if index:
            length = time - int(times[index - 1])
            row[STATUS_LABELS[status[index - 1]]] += min(length, SILENCE)
            row["silent"] += max(length - SILENCE, 0)
    assert covering.take_rows() == [row | {"hour": hour} for hour, row in plain.items()]
    expected = [index for index in range(1, len(times)) if times[index] - times[index - 1] > SILENCE]
    assert silences == [(index, int(times[index - 1])) for index in expected]
    assert covering.take_rows() == []


def test_what_a_checkpoint_tells_is_carried_on():
    covering = Coverage(SILENCE, 100)
    assert covering.count_updates(0, np.array([105, 130]), Status.VERIFIED, np.array([4, 1])) == [(1, 105)]
    assert covering.take_rows()[0] | {"from_time": 0, "to_time": 0} == dict.fromkeys(STATUS_LABELS, 0) | {
        "verified": 15,
        "silent": 15,
        "hour": 0,
        "from_time": 0,
        "to_time": 0,
    }
