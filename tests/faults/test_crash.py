"""Kill a run at a few crash points: the next run completes the work. `make test-crash` tests all points."""

from __future__ import annotations

import pytest
from crashing import new_warehouse, taking_back

pytestmark = pytest.mark.spark


def test_every_commit_has_its_crash_points():
    """Each table that a run has written was passed before and after."""
    new = new_warehouse()
    passed = {point.split(":")[0] for step in new.points for point in step}
    for name in new.states[-1]:
        if ", " not in name:
            assert any(f"{action}.{name}.after" in passed for action in ("add", "append", "overwrite")), name


@pytest.mark.parametrize(
    ("step", "how"),
    [
        (0, {"crash_at": "add.events.before"}),
        (0, {"inside": "overwrite.files.before:1"}),
        (1, {"crash_at": "add.books.after"}),
        (2, {"inside": "append.runs.before:1"}),
        (2, {"crash_at": "append.runs.after"}),
    ],
)
def test_a_killed_run_is_repeated_with_equal_bytes(step, how):
    assert new_warehouse().survive(step, asked=step == 2, **how)


def test_a_run_that_is_killed_during_a_rollback_is_rolled_back():
    scene = taking_back(new_warehouse())
    restores = [point for point in scene.points[0] if point.startswith("restore.")]
    assert len(restores) >= 10
    assert scene.survive(0, crash_at=restores[len(restores) // 2])
