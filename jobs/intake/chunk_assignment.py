"""Assign new messages to chunks, and extend the id ranges and epochs of the messages' streams.

`jobs.intake.streams` explains streams and epochs. The position of a message is one integer that combines the
epoch and the id of the message; see `udfs.ordering.chunk_boundaries.make_position`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property

from deltabook.jobs.intake.instruments import Instrument, get_scales
from deltabook.jobs.intake.staged_files import StoredBounds
from deltabook.jobs.intake.streams import (
    EVENT_TYPES,
    Stream,
    get_stream,
    make_id_ranges,
    read_chunks,
    read_epochs,
)
from deltabook.jobs.tables.stored import ChunkKey
from deltabook.jobs.warehouse.warehouse import Warehouse
from deltabook.schemas.names import EventType
from deltabook.schemas.rows import ChunkRow, EpochRow, EventReference, InstrumentRow, SurveyRow
from deltabook.udfs.ordering.chunk_boundaries import (
    IdGroup,
    IdRange,
    find_chunk_bounds,
    make_position,
    merge_chunks,
    split_position,
)
from deltabook.udfs.ordering.id_resets import Restart, flatten_restarts, unflatten_restarts


class ChunkAssignment:
    """The chunks and epochs of every stream.

    A new object has the stored chunks and epochs. `assign` adds new messages to these chunks and epochs.

    Parameters
    ----------
    warehouse : Warehouse
        Warehouse whose tables `hours` and `epochs` are read.

    Attributes
    ----------
    ranges : dict
        Maps each stream to a list of id ranges: one range for each chunk, in the order of the chunks.
    times : dict
        Maps each stream to a dict that maps the start of each chunk to the smallest and the largest time of
        the chunk's messages, ns since 1970 UTC.
    restarts : dict
        Maps each stream to a list of the restarts of its ids, ordered by time.
    """

    def __init__(self, warehouse: Warehouse):
        self._warehouse = warehouse
        chunks = read_chunks(warehouse)
        self.ranges = make_id_ranges(chunks)
        self.times: dict[Stream, dict[int, tuple[int, int]]] = defaultdict(dict)
        self.restarts: dict[Stream, list[Restart]] = defaultdict(list)
        for row in chunks:
            self.times[get_stream(row)][row["hour"]] = row["first_time"], row["last_time"]
        for epoch in read_epochs(warehouse):
            self.restarts[get_stream(epoch)].append(Restart(epoch["from_time"], epoch["below_sequence"]))

    @cached_property
    def chunk(self) -> int:
        """Length of a chunk, ns."""
        return self._warehouse.chunk

    def get_bounds(self, stream: Stream) -> StoredBounds:
        """Return the bounds of each chunk of a stream: epoch, id and time of its first and last message.

        `survey_streams` compares new messages with the bounds.

        Parameters
        ----------
        stream : tuple of str
            Exchange, symbol and event type.

        Returns
        -------
        StoredBounds
            The bounds. All lists are empty if the warehouse does not have the stream.
        """
        bounds = [
            (*split_position(message_position), time)
            for id_range in self.ranges.get(stream, [])
            for message_position, time in self._list_bounds(stream, id_range)
        ]
        epochs, ids, times = ([bound[index] for bound in bounds] for index in range(3))
        return StoredBounds(epochs, ids, times, flatten_restarts(self.restarts.get(stream, [])), self.chunk)

    def assign(
        self, surveyed: Iterable[SurveyRow], instruments: Mapping[Instrument, InstrumentRow]
    ) -> dict[ChunkKey, EventReference]:
        """Assign new messages to chunks, and return one reference for each chunk that has to be written.

        Parameters
        ----------
        surveyed : iterable of SurveyRow
            Rows of the frame `survey` that describe the new messages.
        instruments : mapping
            Maps (exchange, symbol) to the row of `instruments`.

        Returns
        -------
        dict
            Maps (exchange, symbol, chunk start) to a row of the frame `event_references`. A chunk has to be
            written if it gains messages, or if its messages get another epoch. The column `event_files` is
            empty: the caller fills in the chunk's stored data files.
        """
        rows_of_stream: dict[Stream, list[SurveyRow]] = defaultdict(list)
        for row in surveyed:
            if row.record in ("book_update", instruments[row.exchange, row.symbol]["trade_stream"]):
                rows_of_stream[row.exchange, row.symbol, EVENT_TYPES[row.record]].append(row)
        files: dict[ChunkKey, dict[str, list[str]]] = defaultdict(dict)
        for stream, rows in rows_of_stream.items():
            exchange, symbol, event_type = stream
            for chunk, names in self._add_messages(stream, rows).items():
                files[exchange, symbol, chunk][event_type] = names
        return {key: self._make_reference(key, instruments[key[:2]], names) for key, names in files.items()}

    def make_empty_reference(self, key: ChunkKey, instrument: InstrumentRow) -> EventReference:
        """Return the reference of a chunk that loses messages and gains no messages.

        Parameters
        ----------
        key : tuple
            Exchange, symbol and start of the chunk.
        instrument : InstrumentRow
            Row of the table `instruments`.

        Returns
        -------
        EventReference
            Row of the frame `event_references` without staged files.
        """
        return self._make_reference(key, instrument, {})

    def list_chunks(self) -> list[ChunkRow]:
        """Return the new content of the table `hours`: one row for each chunk of each stream."""
        return [
            self._make_chunk_row(stream, id_range)
            for stream, ranges in self.ranges.items()
            for id_range in ranges
        ]

    def list_epochs(self) -> list[EpochRow]:
        """Return the new content of the table `epochs`: one row for each restart of a stream's ids."""
        return [
            {
                "exchange": exchange,
                "symbol": symbol,
                "event_type": str(event_type),
                "epoch": number,
                "from_time": restart.time,
                "below_sequence": restart.below,
            }
            for (exchange, symbol, event_type), restarts in self.restarts.items()
            for number, restart in enumerate(restarts, start=1)
        ]

    def _make_chunk_row(self, stream: Stream, id_range: IdRange) -> ChunkRow:
        """Return the row of `hours` for one chunk of a stream."""
        exchange, symbol, event_type = stream
        first_epoch, first_sequence = split_position(id_range.first)
        last_epoch, last_sequence = split_position(id_range.last)
        first_time, last_time = self.times[stream][id_range.hour]
        return {
            "exchange": exchange,
            "symbol": symbol,
            "event_type": str(event_type),
            "hour": id_range.hour,
            "first_epoch": first_epoch,
            "first_sequence": first_sequence,
            "last_epoch": last_epoch,
            "last_sequence": last_sequence,
            "first_time": first_time,
            "last_time": last_time,
        }

    def _add_messages(self, stream: Stream, rows: list[SurveyRow]) -> dict[int, list[str]]:
        """Add new messages to the chunks of a stream, and return the chunks that have to be written.

        `rows` are the rows of the frame `survey` for the stream. The result maps the start of each chunk to
        the paths of the staged files that have new messages of the chunk.
        """
        is_renumbered = self._add_restarts(stream, rows)
        groups = [
            IdGroup(
                row.time,
                make_position(row.epoch, row.first),
                make_position(row.epoch, row.last),
                row.received,
            )
            for row in rows
        ]
        self.ranges[stream] = merge_chunks(self.ranges[stream], groups, self.chunk)
        self._extend_times(stream, rows)
        files = {}
        for chunk, (first, end) in find_chunk_bounds(self.ranges[stream]).items():
            overlapping = {
                row.file
                for row, group in zip(rows, groups, strict=True)
                if group.first < end and group.last >= first
            }
            if overlapping or is_renumbered:
                files[chunk] = sorted(overlapping)
        return files

    def _add_restarts(self, stream: Stream, rows: list[SurveyRow]) -> bool:
        """Store the restarts that a survey found; return whether these change epochs of stored messages."""
        restarts = unflatten_restarts(max((row.restarts for row in rows), key=len))
        before, self.restarts[stream] = self.restarts[stream], restarts
        if restarts[: len(before)] == before:
            new = restarts[len(before) :]
            firsts = [first for first, _ in self.times[stream].values()]
            if not any(first >= restart.time for restart in new for first in firsts):
                return False
        # The epoch of a stored message is the number of restarts that are not later than the message.
        self.ranges[stream] = [
            IdRange(
                id_range.hour,
                *(
                    make_position(
                        sum(restart.time <= time for restart in restarts), split_position(message_position)[1]
                    )
                    for message_position, time in self._list_bounds(stream, id_range)
                ),
            )
            for id_range in self.ranges[stream]
        ]
        return True

    def _list_bounds(self, stream: Stream, id_range: IdRange) -> list[tuple[int, int]]:
        """Return (position, time) of the first and of the last message of a chunk, as a list of two pairs."""
        return list(zip((id_range.first, id_range.last), self.times[stream][id_range.hour], strict=True))

    def _extend_times(self, stream: Stream, rows: list[SurveyRow]) -> None:
        """Extend the time range of each chunk to include the times of the chunk's new messages.

        For a chunk that has neither stored nor new times, both limits of the range are the chunk's start.
        """
        times = self.times[stream]
        for id_range in self.ranges[stream]:
            chunk = id_range.hour
            bounds = [(row.first_time, row.last_time) for row in rows if row.time == chunk]
            bounds += [times[chunk]] if chunk in times else []
            times[chunk] = (
                (min(first for first, _ in bounds), max(last for _, last in bounds))
                if bounds
                else (chunk, chunk)
            )

    def _make_reference(
        self, key: ChunkKey, instrument: InstrumentRow, files: Mapping[str, list[str]]
    ) -> EventReference:
        """Return the row of `event_references` for a chunk.

        `files` maps each event type to the staged files with the chunk's new messages.
        """
        exchange, symbol, chunk = key
        updates = exchange, symbol, EventType.BOOK_UPDATE
        trades = exchange, symbol, EventType.TRADE
        return {
            "exchange": exchange,
            "symbol": symbol,
            "hour": chunk,
            "chunk": self.chunk,
            "feed": instrument["feed"],
            **get_scales(instrument),
            "event_files": [],
            "left_out": [],
            "update_files": files.get(EventType.BOOK_UPDATE, []),
            "update_range": self._get_range(updates, chunk),
            "update_restarts": flatten_restarts(self.restarts.get(updates, [])),
            "trade_files": files.get(EventType.TRADE, []),
            "trade_range": self._get_range(trades, chunk),
            "trade_restarts": flatten_restarts(self.restarts.get(trades, [])),
        }

    def _get_range(self, stream: Stream, chunk: int) -> list[int]:
        """Return [epoch, id, epoch, id]: the chunk's first message, and the chunk's end (exclusive).

        All four numbers are 0 if the stream does not have the chunk.
        """
        first, end = find_chunk_bounds(self.ranges.get(stream, [])).get(chunk, (0, 0))
        return [*split_position(first), *split_position(end)]
