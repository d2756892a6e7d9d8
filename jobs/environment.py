"""Former module of the Gymnasium environment; use `deltabook.make_env`."""

from __future__ import annotations

import warnings

from deltabook.jobs.replay.gym_environment import BookEnvironment as BookEnvironment

warnings.warn(
    "deltabook.jobs.environment has moved: use deltabook.make_env(warehouse, symbol), or the name "
    "deltabook.jobs.replay.gym_environment:deltabook/Book-v0",
    DeprecationWarning,
    stacklevel=2,
)
