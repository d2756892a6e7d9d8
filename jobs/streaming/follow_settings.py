"""How captures are followed as they grow, and what is known of them before."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import Stored
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import Cadence, OnGap
from deltabook.schemas.tables import EPOCHS, INSTRUMENTS
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.object_store import is_remote, name_problem


@dataclass(frozen=True)
class Following:
    """How a folder is followed.

    Attributes
    ----------
    source : str
        A name of `SOURCES`.
    folder : Path
        Where captures grow.
    trigger : float
        Seconds between the starts of two micro-batches, at least.
    patience : float
        Seconds for which a message waits for others that may belong before it.
    most_bytes : int
        About how much a micro-batch reads.
    once : bool
        Whether to end with what is there.
    idle : float
        Seconds without anything new after which it ends; 0: never.
    """

    source: str
    folder: Path
    trigger: float = 1.0
    patience: float = 2.0
    most_bytes: int = 16 << 20
    once: bool = False
    idle: float = 0.0


def check(settings: Settings, following: Following) -> None:
    """Stop if the settings ask for what a live feed cannot have.

    Parameters
    ----------
    settings : Settings
        Of the warehouse.
    following : Following
        What is followed, and how.

    Raises
    ------
    SettingsError
        Names it, and what to do.
    """
    writing = settings.writing
    by_lines = [name for name, source in SOURCES.items() if source.by_lines]
    if following.source not in by_lines:
        raise SettingsError(
            f"source {following.source!r}: live reads files of one message a line: {', '.join(by_lines)}"
        )
    if told := name_problem([following.folder]):
        raise SettingsError(told)
    if not following.folder.is_dir():
        raise SettingsError(f"no such folder: {following.folder}")
    if writing.cadence not in tuple(Cadence) or writing.grids:
        raise SettingsError(
            f"--cadence {settings.cadence}: live writes every change or every message; grids of time are "
            "for `deltabook run`"
        )
    if writing.on_gap is OnGap.RAISE:
        raise SettingsError("--on-gap raise: live goes on; choose flag or wait")
    if is_remote(settings.warehouse):
        raise SettingsError(
            f"--warehouse {settings.warehouse}: live books are kept in a folder: name one, or take what "
            "is recorded into the store with `deltabook run --watch`"
        )
    if settings.master.startswith("sc://"):
        raise SettingsError(f"--master {settings.master}: live needs a session of its own, not a server's")


def known_of(
    warehouse: Warehouse,
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[tuple[str, str, str], list[int]]]:
    """Tell what is known of instruments before their first message comes.

    Parameters
    ----------
    warehouse : Warehouse
        Whose.

    Returns
    -------
    (dict, dict)
        Rows of `instruments` as the last published run, or else the settings, fix them; and restarts of
        ids, as `epochs.flatten` lists them, by exchange, symbol and event type.
    """
    given = {
        (exchange, symbol): scales.model_dump()
        for exchange, symbols in warehouse.settings.instruments.items()
        for symbol, scales in symbols.items()
    }
    published = Stored(warehouse.root, published_versions(warehouse.root))
    restarts: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in sorted(published.rows(EPOCHS), key=itemgetter("epoch")):
        restarts[row["exchange"], row["symbol"], row["event_type"]] += row["from_time"], row["below_sequence"]
    rows = {(row["exchange"], row["symbol"]): row for row in published.rows(INSTRUMENTS)}
    return given | rows, dict(restarts)
