"""Placing new messages: which hours they belong to, and what each hour is put together from."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from operator import itemgetter
from typing import Any

from pyspark.sql import Row

from deltabook.jobs.intake.instruments import Instrument
from deltabook.jobs.intake.staged_files import STREAM_OF, Stream
from deltabook.jobs.tables.stored import Slice
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.columns import SCALES
from deltabook.schemas.names import EventType
from deltabook.schemas.tables import EPOCHS, HOURS
from deltabook.udfs.ordering.chunk_boundaries import (
    IdGroup,
    IdRange,
    ends,
    epoch_and_id,
    merge_hours,
    position,
)
from deltabook.udfs.ordering.id_resets import Restart, flatten, unflatten

_STREAM_NAMES: dict[str, str] = {EventType.BOOK_UPDATE: "update", EventType.TRADE: "trade"}


class Placing:
    """The hours and epochs of every stream, as stored and with new messages.

    Parameters
    ----------
    warehouse : Warehouse
        Where they are stored.
    """

    def __init__(self, warehouse: Warehouse):
        self._warehouse = warehouse
        self.hours: dict[Stream, list[IdRange]] = defaultdict(list)
        self.times: dict[Stream, dict[int, tuple[int, int]]] = defaultdict(dict)
        self.restarts: dict[Stream, list[Restart]] = defaultdict(list)
        for row in sorted(warehouse.rows(HOURS), key=itemgetter("hour")):
            places = [position(row[f"{end}_epoch"], row[f"{end}_sequence"]) for end in ("first", "last")]
            self.hours[_stream(row)].append(IdRange(row["hour"], *places))
            self.times[_stream(row)][row["hour"]] = row["first_time"], row["last_time"]
        for row in sorted(warehouse.rows(EPOCHS), key=itemgetter("epoch")):
            self.restarts[_stream(row)].append(Restart(row["from_time"], row["below_sequence"]))

    @cached_property
    def chunk(self) -> int:
        """Length of an hour, ns."""
        return self._warehouse.chunk

    def known(self, stream: Stream) -> dict[str, Any]:
        """Return what is known of a stream: the columns of `stream_references` that a survey starts from."""
        ends_of = [
            (*epoch_and_id(place), time)
            for hour in self.hours.get(stream, [])
            for place, time in self._edges(stream, hour)
        ]
        columns = ("known_epochs", "known_ids", "known_times")
        known = {name: [end[place] for end in ends_of] for place, name in enumerate(columns)}
        return known | {"restarts": flatten(self.restarts.get(stream, [])), "chunk": self.chunk}

    def place(
        self, surveyed: list[Row], instruments: dict[Instrument, dict[str, Any]]
    ) -> dict[Slice, dict[str, Any]]:
        """Take new messages in.

        Parameters
        ----------
        surveyed : list of Row
            Rows of `survey`.
        instruments : dict
            Rows of `instruments` by (exchange, symbol).

        Returns
        -------
        dict
            Rows of `event_references`, without the data files of `events`, by (exchange, symbol, hour):
            every hour that gains messages, or whose messages get another epoch.
        """
        streams: dict[Stream, list[Row]] = defaultdict(list)
        for group in surveyed:
            trades = instruments[group.exchange, group.symbol]["trade_stream"]
            if group.record in ("book_update", trades):
                streams[group.exchange, group.symbol, STREAM_OF[group.record]].append(group)
        references: dict[Slice, dict[str, Any]] = {}
        for stream, found in streams.items():
            renumbered = self._restart(stream, found)
            groups = [
                IdGroup(row.time, position(row.epoch, row.first), position(row.epoch, row.last), row.received)
                for row in found
            ]
            self.hours[stream] = merge_hours(self.hours[stream], groups, self.chunk)
            self._note_times(stream, found)
            for hour, (first, end) in ends(self.hours[stream]).items():
                met = [_meets(group, first, end) for group in groups]
                files = {row.file for row, meets in zip(found, met, strict=True) if meets}
                if files or renumbered:
                    reference = self._reference(references, stream, hour, instruments[stream[:2]])
                    reference[f"{_STREAM_NAMES[stream[2]]}_files"] = sorted(files)
        for key, reference in references.items():
            self._bound(reference, key)
        return references

    def touch(self, references: dict[Slice, dict[str, Any]], key: Slice, instrument: dict[str, Any]) -> None:
        """Add an hour that gains nothing: something of it is to be left out."""
        if key not in references:
            self._reference(references, (key[0], key[1], ""), key[2], instrument)
            self._bound(references[key], key)

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return all rows of `hours` and of `epochs`."""
        hours = [
            _named(stream)
            | {"hour": found.hour}
            | dict(zip(("first_epoch", "first_sequence"), epoch_and_id(found.first), strict=True))
            | dict(zip(("last_epoch", "last_sequence"), epoch_and_id(found.last), strict=True))
            | dict(zip(("first_time", "last_time"), self.times[stream][found.hour], strict=True))
            for stream, ranges in self.hours.items()
            for found in ranges
        ]
        epochs = [
            _named(stream) | {"epoch": number, "from_time": restart.time, "below_sequence": restart.below}
            for stream, restarts in self.restarts.items()
            for number, restart in enumerate(restarts, start=1)
        ]
        return hours, epochs

    def _restart(self, stream: Stream, found: list[Row]) -> bool:
        """Note the restarts that were found; return whether stored messages get another epoch by them."""
        flat = max((row.restarts for row in found), key=len)
        restarts = unflatten(flat)
        before, self.restarts[stream] = self.restarts[stream], restarts
        if restarts[: len(before)] == before:
            new = restarts[len(before) :]
            firsts = [first for first, _ in self.times[stream].values()]
            if not any(first >= restart.time for restart in new for first in firsts):
                return False
        # Positions are told anew: every stored id lies behind as many restarts as precede its time.
        self.hours[stream] = [
            IdRange(
                hour.hour,
                *(
                    position(sum(restart.time <= time for restart in restarts), epoch_and_id(place)[1])
                    for place, time in self._edges(stream, hour)
                ),
            )
            for hour in self.hours[stream]
        ]
        return True

    def _edges(self, stream: Stream, hour: IdRange) -> list[tuple[int, int]]:
        """Return position and time of an hour's first and last message."""
        return list(zip((hour.first, hour.last), self.times[stream][hour.hour], strict=True))

    def _note_times(self, stream: Stream, found: list[Row]) -> None:
        """Keep the least and greatest time of each hour; an hour without any has its own start."""
        for hour in self.hours[stream]:
            rows = [row for row in found if row.time == hour.hour]
            firsts = [row.first_time for row in rows] + [first for first, _ in self._times(stream, hour.hour)]
            lasts = [row.last_time for row in rows] + [last for _, last in self._times(stream, hour.hour)]
            self.times[stream][hour.hour] = (min(firsts), max(lasts)) if firsts else (hour.hour, hour.hour)

    def _times(self, stream: Stream, hour: int) -> list[tuple[int, int]]:
        return [self.times[stream][hour]] if hour in self.times[stream] else []

    def _reference(
        self,
        references: dict[Slice, dict[str, Any]],
        stream: Stream,
        hour: int,
        instrument: dict[str, Any],
    ) -> dict[str, Any]:
        exchange, symbol, _ = stream
        return references.setdefault(
            (exchange, symbol, hour),
            {
                "exchange": exchange,
                "symbol": symbol,
                "hour": hour,
                "chunk": self.chunk,
                "feed": instrument["feed"],
                **{column.name: instrument[column.name] for column in SCALES},
                "update_files": [],
                "trade_files": [],
                "event_files": [],
                "left_out": [],
            },
        )

    def _bound(self, reference: dict[str, Any], key: Slice) -> None:
        for event_type, name in _STREAM_NAMES.items():
            stream = (key[0], key[1], event_type)
            first, end = ends(self.hours.get(stream, [])).get(key[2], (0, 0))
            reference[f"{name}_range"] = [*epoch_and_id(first), *epoch_and_id(end)]
            reference[f"{name}_restarts"] = flatten(self.restarts.get(stream, []))


def _meets(group: IdGroup, first: int, end: int) -> bool:
    return group.first < end and group.last >= first


def _stream(row: dict[str, Any]) -> Stream:
    return row["exchange"], row["symbol"], row["event_type"]


def _named(stream: Stream) -> dict[str, Any]:
    return dict(zip(("exchange", "symbol", "event_type"), map(str, stream), strict=True))
