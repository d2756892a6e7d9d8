"""Settings of a followed feed: how growing captures are read, and what is known of their instruments."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deltabook.jobs.intake.instruments import Instrument, read_instruments
from deltabook.jobs.intake.streams import Stream, get_stream, read_epochs
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import Cadence, OnGap
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.locations import explain_invalid_names, is_remote


@dataclass(frozen=True)
class FollowSettings:
    """How a folder of growing captures is followed.

    Attributes
    ----------
    source : str
        Name of the source that parses the captures, a key of `SOURCES`.
    folder : Path
        The folder in which captures grow.
    trigger : float
        Least time between the starts of two micro-batches, s.
    patience : float
        Time for which a message waits for others that may belong before it, s.
    most_bytes : int
        Approximate limit of what one micro-batch reads, bytes.
    once : bool
        Whether to end when everything that is there has been read.
    idle : float
        Time without a new message after which to end, s; 0: never.
    """

    source: str
    folder: Path
    trigger: float = 1.0
    patience: float = 2.0
    most_bytes: int = 16 << 20
    once: bool = False
    idle: float = 0.0


class KnownInstruments(NamedTuple):
    """What is known of instruments before their first message arrives.

    Attributes
    ----------
    rows : dict
        Scales of each instrument by (exchange, symbol): a row of `instruments` if it was published.
    restarts : dict
        Restarts of ids by (exchange, symbol, event type), as `id_resets` flattens them.
    """

    rows: dict[Instrument, dict[str, Any]]
    restarts: dict[Stream, list[int]]


def check_settings(settings: Settings, following: FollowSettings) -> None:
    """Raise an error if the settings ask for something that a live feed does not support.

    Parameters
    ----------
    settings : Settings
        Settings of the warehouse.
    following : FollowSettings
        The feed to follow.

    Raises
    ------
    SettingsError
        Names the setting and what to do.
    """
    policy = settings.row_policy
    by_lines = [name for name, source in SOURCES.items() if source.by_lines]
    if following.source not in by_lines:
        raise SettingsError(
            f"source {following.source!r}: live reads only files of one message a line: {', '.join(by_lines)}"
        )
    if problem := explain_invalid_names([following.folder]):
        raise SettingsError(problem)
    if not following.folder.is_dir():
        raise SettingsError(f"no such folder: {following.folder}")
    if policy.cadence not in tuple(Cadence) or policy.grids:
        raise SettingsError(
            f"--cadence {settings.cadence}: live writes every change or every message; grids of time are "
            "for `deltabook run`"
        )
    if policy.on_gap is OnGap.RAISE:
        raise SettingsError("--on-gap raise: live does not stop at a gap; choose flag or wait")
    if is_remote(settings.warehouse):
        raise SettingsError(
            f"--warehouse {settings.warehouse}: live stores books in a local folder: give one, or ingest the "
            "recorded captures into the store with `deltabook run --watch`"
        )
    if settings.master.startswith("sc://"):
        raise SettingsError(f"--master {settings.master}: live needs a session of its own, not a server's")


def read_known_instruments(warehouse: Warehouse) -> KnownInstruments:
    """Return what the last published run, or else the settings, say of instruments and restarts of ids.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse to which the live tables belong.

    Returns
    -------
    KnownInstruments
        Instruments that neither of them has are absent: their first messages decide.
    """
    published = TableReader(warehouse.root, published_versions(warehouse.root))
    restarts: dict[Stream, list[int]] = defaultdict(list)
    for row in read_epochs(published):
        restarts[get_stream(row)] += row["from_time"], row["below_sequence"]
    rows: dict[Instrument, dict[str, Any]] = {
        (exchange, symbol): scales.model_dump()
        for exchange, symbols in warehouse.settings.instruments.items()
        for symbol, scales in symbols.items()
    }
    rows |= {key: dict(row) for key, row in read_instruments(published).items()}
    return KnownInstruments(rows, dict(restarts))
