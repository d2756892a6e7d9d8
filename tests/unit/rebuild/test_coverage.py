"""Time by status and by known depth: every interval counts once, up to the length that is silence."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from properties import cases

from deltabook.schemas.names import FULL_DEPTH, HOUR, KNOWN_DEPTHS, NOT_GIVEN, STATUS_LABELS, Status
from deltabook.udfs.rebuild.coverage import Coverage

SILENCE = 10
DEPTHS = st.sampled_from([0, 1, 4, 5, 19, 20, FULL_DEPTH])
UPDATES = st.lists(
    st.tuples(
        st.integers(0, 25), st.sampled_from(list(Status)), DEPTHS, st.sampled_from([False, False, True])
    ),
    min_size=1,
    max_size=30,
)


def empty_row():
    return dict.fromkeys((*STATUS_LABELS, "silent", *KNOWN_DEPTHS), 0)


@cases(100)
@given(
    updates=UPDATES,
    cuts=st.sets(st.integers(0, 30)),
    hours=st.integers(1, 3),
    depth=st.sampled_from([3, 20, FULL_DEPTH]),
)
def test_time_is_that_of_a_plain_count_whatever_the_batches(updates, cuts, hours, depth):
    times = np.cumsum([length for length, *_ in updates]).astype(np.int64)
    status = np.array([code for _, code, *_ in updates], dtype=np.int8)
    known = np.array([count for _, _, count, _ in updates], dtype=np.int64)
    starts = np.array([is_start for *_, is_start in updates], dtype=np.bool_)
    hour_of = np.sort(np.arange(len(times)) % hours) * HOUR
    covering, silences, last = Coverage(SILENCE, NOT_GIVEN, 0, depth), [], NOT_GIVEN
    bounds = sorted(
        {0, len(times), *(cut for cut in cuts if cut < len(times)), *np.flatnonzero(np.diff(hour_of)) + 1}
    )
    for start, end in pairwise(bounds):
        part = slice(start, end)
        found = covering.count_updates(
            int(hour_of[start]), times[part], last, status[part], known[part], starts[part]
        )
        silences += [(start + at, before) for at, before in found]
        last = int(status[end - 1])
    plain: dict[int, dict[str, int]] = {}
    expected = []
    for index, (time, hour) in enumerate(zip(times.tolist(), hour_of.tolist(), strict=True)):
        row = plain.setdefault(hour, empty_row() | {"from_time": time})
        row["to_time"] = time
        if index and not starts[index]:
            length = time - int(times[index - 1])
            covered = min(length, SILENCE)
            row[STATUS_LABELS[status[index - 1]]] += covered
            row["silent"] += length - covered
            for name, count in (("known_1", 1), ("known_5", 5), ("known_20", 20)):
                row[name] += covered if known[index - 1] >= min(count, depth) else 0
            if length > SILENCE:
                expected.append((index, int(times[index - 1])))
    assert covering.take_rows() == [row | {"hour": hour} for hour, row in plain.items()]
    assert silences == expected
    assert covering.take_rows() == []


def test_what_a_checkpoint_tells_is_carried_on():
    covering = Coverage(SILENCE, 100, 7, 20)
    arrays = np.array([105, 130]), Status.VERIFIED, np.array([Status.VERIFIED, Status.WARMING])
    found = covering.count_updates(0, *arrays, np.array([FULL_DEPTH, 0]), np.zeros(2, dtype=np.bool_))
    assert found == [(1, 105)]
    expected = {"verified": 15, "silent": 15, "known_1": 15, "known_5": 15, "known_20": 10}
    (row,) = covering.take_rows()
    assert row == empty_row() | expected | {"hour": 0, "from_time": 105, "to_time": 130}


def test_time_before_a_session_is_not_recorded():
    covering = Coverage(SILENCE, 100, 20, 20)
    arrays = np.array([100_000, 100_003]), Status.VERIFIED, np.array([Status.VERIFIED] * 2)
    assert covering.count_updates(0, *arrays, np.array([20, 20]), np.array([True, False])) == []
    (row,) = covering.take_rows()
    assert (row["verified"], row["silent"], row["known_20"]) == (3, 0, 3)
