"""The function that Spark applies to successive chunks of one symbol to rebuild books from events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain

import pandas as pd
import pyarrow as pa

from deltabook.schemas.errors import GapError, WarehouseError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import REBUILT
from deltabook.schemas.names import GAP_LABELS, GapKind, OnGap, RowPolicy, Status
from deltabook.schemas.tables import CHECKPOINTS, CHECKS, COVERAGE, GAPS, GRIDS, form_of
from deltabook.udfs.numbers.encoding import Codes, Numbers, Rows, Scaled
from deltabook.udfs.rebuild.checkpoints import (
    BookState,
    CheckpointKeys,
    make_checkpoint_row,
    read_held_events,
    restore_book_state,
    split_for_checkpoints,
)
from deltabook.udfs.rebuild.rebuilder import Rebuilder
from deltabook.udfs.rebuild.row_policy import RowCadence
from deltabook.udfs.spark.references import ChunkToRebuild
from deltabook.udfs.storage.arrow_frames import GroupFunction, GroupKey, read_rows, to_frame
from deltabook.udfs.storage.data_files import AddedFile, DataFile, write_data_file
from deltabook.udfs.storage.event_files import BATCH_ROWS, read_events, read_start_checkpoint
from deltabook.udfs.storage.prefetch import prefetch
from deltabook.udfs.storage.worker_errors import describe_batch
from deltabook.udfs.truths.vendor_books import queue_vendor_books, read_vendor_books

_KEY_COLUMNS = ("exchange", "symbol", "hour", "event", "fingerprint")
"""Columns of a checkpoint that are not part of the book's state."""
_USUAL_DEPTH, _MAX_DEPTH = 20, 5000
"""Depths in levels per side. Up to the first, a batch has BATCH_ROWS messages.

Between the two depths, batches get smaller as the depth grows. Above the second, batches get no smaller.
"""
_HARMLESS_GAPS = {GAP_LABELS[kind] for kind in (GapKind.CLOCK_JUMP, GapKind.SILENCE)}


def rebuild_groups(root: str, policy: RowPolicy) -> GroupFunction:
    """Return the function that rebuilds chunks of one symbol, one after another.

    Parameters
    ----------
    root : str
        Folder of the warehouse.
    policy : RowPolicy
        Rules that choose the rows of books to write.

    Returns
    -------
    callable
        Function for `make_task_function`, with groups whose key starts with exchange and symbol. It takes
        rows of `rebuild_references` and yields rows of `rebuilt`. If `chained` is set, it writes the chunk's
        checkpoints, and yields its gaps, comparisons and coverage. If `replayed` is set, it writes the
        chunk's books. It skips a chunk if neither the events, nor the settings, nor the opening book have
        changed, because the result would equal the stored result.
    """

    def rebuild(key: GroupKey, groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        chunks = read_rows(pd.concat(groups).sort_values("hour"), ChunkToRebuild)
        rows = _ChunkRebuild(root, policy, str(key[0]), str(key[1]), chunks).rebuild()
        instrument = {"exchange": str(key[0]), "symbol": str(key[1])}
        yield to_frame(pa.RecordBatch.from_pylist([row | instrument for row in rows], schema=REBUILT.arrow))

    return rebuild


class _ChunkRebuild:
    """Rebuilds successive chunks of one symbol, and skips chunks whose result would not change."""

    def __init__(
        self, root: str, policy: RowPolicy, exchange: str, symbol: str, chunks: list[ChunkToRebuild]
    ):
        self.root, self.policy = root, policy
        self.exchange, self.symbol = exchange, symbol
        self.chunks = chunks
        self.numbers = self._make_encoding()
        self.rebuilder = self._make_rebuilder(chunks[0])

    def rebuild(self) -> list[dict[str, object]]:
        """Rebuild the chunks; return the rows of `rebuilt`."""
        rows: list[dict[str, object]] = []
        differs = False
        waiting = list(self.chunks)
        while waiting:
            reference = waiting.pop(0)
            if differs and not reference.changed and self._has_stored_state(reference):
                last = reference
                while waiting and not waiting[0].changed:
                    last = waiting.pop(0)
                if not waiting:
                    break
                # A new chunk has no stored checkpoint: rebuild the chunk before it, to get the opening book.
                if not waiting[0].checkpoint_file:
                    waiting.insert(0, last)
                rows += self._take_gaps_and_coverage()
                differs = False
                self.rebuilder = self._make_rebuilder(waiting[0])
                continue
            differs |= bool(reference.changed)
            rows += self._rebuild_chunk(reference)
        return rows + self._take_gaps_and_coverage() if self.chunks[0].chained else rows

    def _rebuild_chunk(self, reference: ChunkToRebuild) -> list[dict[str, object]]:
        """Rebuild a chunk; return the chunk's rows of `rebuilt`, except those for gaps and coverage."""
        added = self._write_files(reference)
        rows: list[dict[str, object]] = [{**row, "hour": int(reference.hour)} for row in added]
        if reference.chained:
            rows += [
                asdict(comparison) | {"table": CHECKS.name, "hour": int(reference.hour), "kind": str(kind)}
                for kind, comparison in self.rebuilder.take_comparisons().items()
            ]
        return rows

    def _write_files(self, reference: ChunkToRebuild) -> list[AddedFile]:
        """Rebuild a chunk, and write books and checkpoints; return a row of `added` for each written file."""
        self.rebuilder.skip_rows(not reference.replayed)
        vendor_rows = read_vendor_books(reference)
        self.rebuilder.use_vendor_books(queue_vendor_books(vendor_rows, self.numbers))
        books = self._open_book_files() if reference.replayed else []
        checkpoints = [self._make_checkpoint(reference)]
        event = 0
        for events, is_due in split_for_checkpoints(
            self._read_events(reference), self.policy.checkpoint_every
        ):
            if is_due:
                checkpoints.append(self._make_checkpoint(reference, event))
            rows = self._apply_events(events)
            for cadence, file in books:
                file.add(cadence.select_rows(rows))
            event += events.num_rows
        added = []
        for cadence, file in books:
            for rows in cadence.take_last_row():
                file.add(rows)
            added += file.close()
        if reference.chained:
            table = form_of(CHECKPOINTS, self.numbers.is_decimal)
            added += write_data_file(self.root, table, checkpoints).to_pylist()
        return added

    def _open_book_files(self) -> list[tuple[RowCadence, DataFile]]:
        grids = form_of(GRIDS, self.numbers.is_decimal)
        tables = {self.policy.cadence: self.rebuilder.rows.table} | dict.fromkeys(self.policy.grids, grids)
        return [
            (RowCadence(self.policy, cadence, self.numbers), DataFile(self.root, table))
            for cadence, table in tables.items()
        ]

    def _apply_events(self, events: pa.RecordBatch) -> pa.RecordBatch:
        """Apply events to the book; return rows of `books`.

        If an error occurs, a note with the position of the events is added to the error.
        """
        try:
            rows = self.rebuilder.apply_events(self.numbers.encode(events))
        except Exception as error:
            error.add_note(describe_batch(events))
            raise
        if self.policy.on_gap is OnGap.RAISE:
            self._raise_at_gap()
        return rows

    def _raise_at_gap(self) -> None:
        """Raise a GapError for the first gap that breaks the book."""
        for gap in self.rebuilder.gaps.rows():
            if gap["kind"] not in _HARMLESS_GAPS:
                raise GapError(
                    f"{self.exchange} {self.symbol}: {gap['kind']} at sequence {gap['sequence']} "
                    f"({gap['source_file']}, row {gap['source_row']}): expected {gap['expected']}, found "
                    f"{gap['found']}. Nothing is published. Add the missing data, or continue past gaps with "
                    "--on-gap flag or --on-gap wait"
                )

    def _take_gaps_and_coverage(self) -> list[dict[str, object]]:
        """Finish the book; return rows of `rebuilt` for the tables `gaps` and `coverage`."""
        gaps = self.rebuilder.finish()
        if self.policy.on_gap is OnGap.RAISE:
            self._raise_at_gap()
        coverage = self.rebuilder.coverage.take_rows()
        return [row | {"table": GAPS.name} for row in gaps] + [
            row | {"table": COVERAGE.name} for row in coverage
        ]

    def _has_stored_state(self, reference: ChunkToRebuild) -> bool:
        """Return whether a chunk's stored opening checkpoint equals the current book, with no gap open."""
        if self.rebuilder.gaps.has_open_gaps or self.rebuilder.held is not None:
            return False
        if self.rebuilder.capture_state().status is Status.UNSEEDED:
            return False
        state = pa.Table.from_batches([self._make_checkpoint(reference)])
        names = [name for name in state.schema.names if name not in _KEY_COLUMNS]
        state = state.select(names)
        stored = read_start_checkpoint(reference)
        return stored is not None and bool(stored.select(names).cast(state.schema).equals(state))

    def _make_checkpoint(self, reference: ChunkToRebuild, event: int = 0) -> pa.RecordBatch:
        """Return the current state of the book as a row of `checkpoints`.

        `event` is the number of the chunk's events before the state.
        """
        keys: CheckpointKeys = {
            "exchange": self.exchange,
            "symbol": self.symbol,
            "hour": int(reference.hour),
            "event": event,
            "fingerprint": reference.fingerprint,
        }
        return make_checkpoint_row(self.rebuilder.capture_state(), self.numbers, keys)

    def _read_events(self, reference: ChunkToRebuild) -> Iterator[pa.RecordBatch]:
        if len(reference.event_files) != 1:
            raise WarehouseError(
                f"{self.exchange} {self.symbol}: expected one data file of events for the chunk "
                f"{reference.hour}, found {len(reference.event_files)}. Ingest the chunk again"
            )
        file, chunk, is_decimal = reference.event_files[0], int(reference.hour), bool(reference.is_decimal)
        # Rows of deep books hold many numbers, so a batch of deep books has fewer rows.
        batch_rows = max(
            1, BATCH_ROWS * _USUAL_DEPTH // max(_USUAL_DEPTH, min(self.policy.depth, _MAX_DEPTH))
        )
        return prefetch(read_events(file, self.exchange, self.symbol, chunk, is_decimal, batch_rows))

    def _make_encoding(self) -> Numbers:
        """Return the encoding of prices and sizes.

        For an instrument with decimals, this reads all chunks, because the encoding needs all their numbers.
        """
        first = self.chunks[0]
        if not first.is_decimal:
            return Scaled(int(first.price_scale), int(first.size_scale))
        checkpoints = [read_start_checkpoint(reference) for reference in self.chunks]
        parts = [(state, read_held_events(state)) for state in checkpoints if state is not None]
        states: list[Rows] = [rows for part in parts for rows in part if rows is not None]
        events = (batch for reference in self.chunks for batch in self._read_events(reference))
        vendor_books = map(read_vendor_books, self.chunks)
        return Codes.of(chain(states, events, vendor_books))

    def _make_rebuilder(self, reference: ChunkToRebuild) -> Rebuilder:
        """Return a rebuilder that starts from a chunk's stored checkpoint; without one, from no book."""
        checkpoint = read_start_checkpoint(reference)
        state = BookState() if checkpoint is None else restore_book_state(checkpoint, self.numbers)
        feed = FEEDS[self.chunks[0].feed]
        return Rebuilder(self.exchange, self.symbol, feed, self.policy, self.numbers, state)
