"""Settings of a recording: the warehouse of its own with which the books of a warehouse are compared."""

from __future__ import annotations

import re

from deltabook.jobs.intake.instruments import Instrument, get_scales, read_instruments
from deltabook.jobs.runtime.settings import Scales, Settings
from deltabook.jobs.tables.published import require_published
from deltabook.jobs.tables.recordings import RECORDINGS_FOLDER
from deltabook.jobs.tables.stored import TableReader
from deltabook.schemas.errors import SettingsError, WarehouseError
from deltabook.schemas.names import Cadence

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}"


def make_recording_settings(settings: Settings, name: str) -> Settings:
    """Return the settings with which a recording is read and rebuilt.

    Its instruments have the scales of the warehouse, and its books have a row for each message.

    Parameters
    ----------
    settings : Settings
        Settings of the warehouse.
    name : str
        Name of the recording.

    Raises
    ------
    SettingsError
        If the name cannot be the name of a folder.
    WarehouseError
        If the warehouse has no books to compare.
    """
    if not re.fullmatch(_NAME, name):
        raise SettingsError(
            f"--name {name!r}: expected 1 to 40 letters, digits, hyphens or underscores, a letter or digit "
            "first"
        )
    tables = TableReader(settings.warehouse, require_published(settings.warehouse))
    instruments: dict[str, dict[str, Scales]] = {}
    for (exchange, symbol), row in read_instruments(tables).items():
        instruments.setdefault(exchange, {})[symbol] = Scales(**get_scales(row))
    changed = {
        "warehouse": settings.warehouse / RECORDINGS_FOLDER / name,
        "cadence": str(Cadence.MESSAGE),
        "instruments": instruments,
    }
    return settings.model_copy(update=changed)


def require_common_instruments(settings: Settings, recording: Settings) -> None:
    """Raise an error if a recording has no instrument of the warehouse.

    Parameters
    ----------
    settings, recording : Settings
        Settings of the warehouse and of the recording. Both are published.

    Raises
    ------
    WarehouseError
        If no instrument is in both. The message lists some instruments of each.
    """
    ours, theirs = (
        {*read_instruments(TableReader(root, require_published(root)))}
        for root in (settings.warehouse, recording.warehouse)
    )
    if not ours & theirs:
        raise WarehouseError(
            f"the recording has {_list_some(theirs)}, and the warehouse {_list_some(ours)}: pass a recording "
            "of an instrument of the warehouse"
        )


def _list_some(instruments: set[Instrument]) -> str:
    """Return the names of at most five instruments."""
    names = [" ".join(key) for key in sorted(instruments)]
    return ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])]) or "no instrument"
