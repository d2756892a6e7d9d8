"""Former module of `published_table`; use `deltabook.open`."""

from __future__ import annotations

import warnings

from deltabook.jobs.tables.published import published_table as published_table

warnings.warn(
    "deltabook.jobs.published has moved: use deltabook.open(path).table(name), or import published_table "
    "from deltabook.jobs.tables.published",
    DeprecationWarning,
    stacklevel=2,
)
