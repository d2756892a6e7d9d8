"""Former module of `Replayer`; import it from `deltabook.jobs.replay.replayer`."""

from __future__ import annotations

import warnings

from deltabook.jobs.replay.replayer import Replayer as Replayer
from deltabook.jobs.replay.replayer import merge as merge

warnings.warn(
    "deltabook.jobs.replaying has moved: use deltabook.open(path).replay(symbol), or import Replayer from "
    "deltabook.jobs.replay.replayer",
    DeprecationWarning,
    stacklevel=2,
)
