"""Base class of parsers of feeds without ids, whose messages are numbered by receive time in file order."""

from __future__ import annotations

import numpy as np

from deltabook.schemas.names import NOT_GIVEN
from deltabook.udfs.numbers.record import Record
from deltabook.udfs.sources.common.envelopes import Line
from deltabook.udfs.sources.common.limits import Limits
from deltabook.udfs.sources.common.message_files import MessageParser
from deltabook.udfs.sources.common.receive_order import order_receive_times


class ReceiveOrderedParser(MessageParser):
    """Parser of one file of a feed without ids; the sequence of a message is its receive time."""

    def __init__(self, path: str, limits: Limits):
        super().__init__(path, limits)
        self.order_times: dict[int, int] = {}
        """{row of the current block: time that orders the row's message, ns since 1970 UTC}."""
        self.last_sequence = NOT_GIVEN
        """Sequence of the last message of the previous blocks, ns since 1970 UTC; -1 if there is none."""

    def note_receive_time(self, line: Line) -> None:
        """Note the receive time of the current line, also if the line has no record."""
        if line.received != NOT_GIVEN:
            self.order_times[self.row] = line.received

    def add_in_order(self, record: Record, line: Line) -> None:
        """Add a record with a preliminary sequence: the line's receive time, or else the record's timestamp.

        `finish_block` replaces the preliminary sequence.

        Parameters
        ----------
        record : Record
            The record without receive time and sequence.
        line : Line
            The line of the record.

        Raises
        ------
        ValueError
            If neither the line nor the record has a time.
        """
        time = self.order_times.setdefault(self.row, record["timestamp"])
        if time == NOT_GIVEN:
            del self.order_times[self.row]
            raise ValueError("the line has no receive time and no level with a time: its order is unknown")
        self.add(record | {"received": line.received, "sequence": time})

    def finish_block(self) -> None:
        """Set the final sequence of the block's records.

        This step runs at the end of a block, because only later lines show that a clock jumped ahead.
        """
        times = np.fromiter(self.order_times.values(), dtype=np.int64)
        sequences = order_receive_times(times, self.last_sequence).tolist()
        sequence_by_row = dict(zip(self.order_times, sequences, strict=True))
        latest = self.last_sequence
        for record in self.records.pending:
            latest = sequence_by_row.get(record["source_row"], latest)
            if record["record"] != "quarantine":
                record["sequence"] = latest
        self.last_sequence = sequences[-1] if sequences else self.last_sequence
        self.order_times.clear()
