"""Check the settings of the job `live`, and read the scales and id restarts that earlier runs found."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

from deltabook.jobs.intake.instruments import Instrument, read_instruments
from deltabook.jobs.intake.streams import Stream, get_stream, read_epochs
from deltabook.jobs.runtime.settings import Settings
from deltabook.jobs.tables.published import published_versions
from deltabook.jobs.tables.stored import TableReader
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.errors import SettingsError
from deltabook.schemas.names import Cadence, OnGap
from deltabook.schemas.rows import InstrumentRow
from deltabook.udfs.sources.registry import SOURCES
from deltabook.udfs.storage.locations import explain_invalid_names, is_remote


@dataclass(frozen=True)
class FollowSettings:
    """Settings that say which folder of growing captures to follow, and how.

    Attributes
    ----------
    source : str
        Name of the source that parses the captures: a key of `SOURCES`.
    folder : Path
        The folder in which captures grow.
    trigger : float
        Minimum time between the starts of two micro-batches, in seconds.
    patience : float
        Time in seconds that a message waits before it is applied to its book. During this time, messages can
        still arrive that come earlier in the feed's order.
    most_bytes : int
        Approximate maximum number of bytes that one micro-batch reads.
    once : bool
        Whether to end as soon as the job has read all messages that the folder holds at its start.
    idle : float
        Number of seconds without a new message after which the job ends; 0: the job goes on.
    """

    source: str
    folder: Path
    trigger: float = 1.0
    patience: float = 2.0
    most_bytes: int = 16 << 20
    once: bool = False
    idle: float = 0.0


class KnownInstruments(NamedTuple):
    """Scales of instruments, and restarts of ids, that are known before the first live message arrives.

    Attributes
    ----------
    rows : dict
        Maps (exchange, symbol) to a row of the table `instruments`. If only the settings name an instrument,
        its row has only the scales.
    restarts : dict
        Maps (exchange, symbol, event type) to the restarts of the venue's ids in this stream, as a flat list
        with two numbers for each restart. The first number is the time of the first message after the
        restart, ns since 1970 UTC. The second number is an id that separates the epochs: of the messages near
        this time, those with a smaller id were sent after the restart.
    """

    rows: dict[Instrument, InstrumentRow]
    restarts: dict[Stream, list[int]]


def check_settings(settings: Settings, following: FollowSettings) -> None:
    """Raise an error if a setting is not supported by the job `live`.

    Parameters
    ----------
    settings : Settings
        Settings of the warehouse.
    following : FollowSettings
        The feed to follow.

    Raises
    ------
    SettingsError
        If a setting is not supported. The message names the setting and the remedy.
    """
    policy = settings.row_policy
    by_lines = [name for name, source in SOURCES.items() if source.by_lines]
    if following.source not in by_lines:
        raise SettingsError(
            f"source {following.source!r}: the job `live` reads only files with one message per line. Choose "
            f"one of the sources {', '.join(by_lines)}"
        )
    if problem := explain_invalid_names([following.folder]):
        raise SettingsError(problem)
    if not following.folder.is_dir():
        raise SettingsError(f"no such folder: {following.folder}")
    if policy.cadence not in tuple(Cadence) or policy.grids:
        raise SettingsError(
            f"--cadence {settings.cadence}: the job `live` supports only `change` and `message`. For time "
            "steps, use `deltabook run`"
        )
    if policy.on_gap is OnGap.RAISE:
        raise SettingsError("--on-gap raise: the job `live` does not stop at a gap. Choose `flag` or `wait`")
    if is_remote(settings.warehouse):
        raise SettingsError(
            f"--warehouse {settings.warehouse}: live stores books only in a local folder. Choose a local "
            "--warehouse, or ingest the recorded captures with `deltabook run --watch`"
        )
    if settings.master.startswith("sc://"):
        raise SettingsError(
            f"--master {settings.master}: live cannot use a Spark Connect server. Choose another --master, "
            "such as local[*]"
        )


def read_known_instruments(warehouse: Warehouse) -> KnownInstruments:
    """Return the scales of instruments and the restarts of ids that the last published run stored.

    If the run has no scales of an instrument, the scales come from the settings.

    Parameters
    ----------
    warehouse : Warehouse
        The warehouse to which the live tables belong.

    Returns
    -------
    KnownInstruments
        The known instruments. For an instrument that is not among them, the first live messages decide the
        scales.
    """
    published = TableReader(warehouse.root, published_versions(warehouse.root))
    restarts: dict[Stream, list[int]] = defaultdict(list)
    for row in read_epochs(published):
        restarts[get_stream(row)] += row["from_time"], row["below_sequence"]
    # The settings give only scales. The first live messages decide the other columns.
    rows = {
        (exchange, symbol): cast(InstrumentRow, scales.model_dump())
        for exchange, symbols in warehouse.settings.instruments.items()
        for symbol, scales in symbols.items()
    }
    return KnownInstruments(rows | read_instruments(published), dict(restarts))
