"""The functions that Spark applies to hours of events: chain a symbol's hours, and replay each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain as chained
from typing import Any

import pandas as pd
import pyarrow as pa

from deltabook.schemas.errors import WarehouseError
from deltabook.schemas.feeds import FEEDS
from deltabook.schemas.frames import CHAINED
from deltabook.schemas.names import NOT_GIVEN, Cadence
from deltabook.schemas.tables import CHECKPOINTS, CHECKS, GAPS, form_of
from deltabook.udfs.checkpoints import checkpoint_row, held_events, opening_of
from deltabook.udfs.datafiles import write_data_file
from deltabook.udfs.files import read_checkpoint, read_events
from deltabook.udfs.frames import Group, only_row, to_frame
from deltabook.udfs.numbers import Codes, Numbers, Rows, Scaled
from deltabook.udfs.rebuild import Opening, Rebuilder
from deltabook.udfs.seeding import with_seed


def chain_groups(root: str, depth: int, cadence: Cadence) -> Group:
    """Make the function that runs one symbol's hours in sequence and keeps what passes between them.

    Parameters
    ----------
    root : str
        Folder of the warehouse.
    depth : int
        Levels a side in each row of `books`; trades are counted between those rows.
    cadence : Cadence
        When rows are written.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol).applyInPandas`: rows of `hour_references` in, rows of
        `chained` out: the data file with the opening of each hour, every gap, every comparison.
    """

    def chain(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        exchange, symbol = str(key[0]), str(key[1])
        hours: list[Any] = list(pd.concat(groups).sort_values("hour").itertuples(index=False))
        numbers = _numbers(exchange, symbol, hours)
        rebuilder = _rebuilder(exchange, symbol, depth, cadence, hours[0], numbers)
        checkpoints = form_of(CHECKPOINTS, numbers.is_decimal)
        rows: list[dict[str, Any]] = []
        for reference in hours:
            hour = int(reference.hour)
            named = {"exchange": exchange, "symbol": symbol, "hour": hour}
            named |= {"fingerprint": reference.fingerprint}
            opening = checkpoint_row(rebuilder.opening(), numbers, named)
            rows += write_data_file(root, checkpoints, [opening]).to_pylist()
            for batch in _events(exchange, symbol, reference):
                rebuilder.feed_batch(numbers.encode(batch))
            compared = rebuilder.take_compared().items()
            rows += [
                asdict(found) | {"table": CHECKS.name, "hour": hour, "kind": str(kind)}
                for kind, found in compared
            ]
        rows += [row | {"table": GAPS.name} for row in rebuilder.finish()]
        named = {"exchange": exchange, "symbol": symbol}
        yield to_frame(pa.RecordBatch.from_pylist([row | named for row in rows], schema=CHAINED.arrow))

    return chain


def replay_groups(root: str, depth: int, cadence: Cadence) -> Group:
    """Make the function that rebuilds one symbol-hour from its checkpoint.

    Parameters
    ----------
    root : str
        Folder of the warehouse.
    depth : int
        Levels a side in each row.
    cadence : Cadence
        When rows are written.

    Returns
    -------
    callable
        For `groupBy(exchange, symbol, hour).applyInPandas`: one row of `hour_references` in, a row
        of `added` out.
    """

    def replay(key: tuple[Any, ...], groups: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        exchange, symbol = str(key[0]), str(key[1])
        reference = only_row(groups)
        numbers = _numbers(exchange, symbol, [reference])
        rebuilder = _rebuilder(exchange, symbol, depth, cadence, reference, numbers)
        events = map(numbers.encode, _events(exchange, symbol, reference))
        yield to_frame(write_data_file(root, rebuilder.books, map(rebuilder.feed_batch, events)))

    return replay


def _events(exchange: str, symbol: str, reference: Any) -> Iterator[pa.RecordBatch]:
    if len(reference.event_files) != 1:
        raise WarehouseError(
            f"{exchange} {symbol}: hour {reference.hour} lies in {len(reference.event_files)} data files, "
            "expected one: ingest the hour again"
        )
    file, hour, is_decimal = reference.event_files[0], int(reference.hour), bool(reference.is_decimal)
    events = read_events(file, exchange, symbol, hour, is_decimal)
    return events if reference.seed_sequence == NOT_GIVEN else with_seed(events, reference)


def _numbers(exchange: str, symbol: str, references: list[Any]) -> Numbers:
    """Return what the prices and sizes of hours are; decimals are collected by reading the hours once."""
    if not references[0].is_decimal:
        return Scaled(int(references[0].price_scale), int(references[0].size_scale))
    parts: list[Rows] = []
    if references[0].checkpoint_file:
        opening = _opening(exchange, references[0])
        parts = [rows for rows in (opening, held_events(opening)) if rows is not None]
    events = (batch for reference in references for batch in _events(exchange, symbol, reference))
    return Codes.of(chained(parts, events))


def _opening(exchange: str, reference: Any) -> pa.Table:
    return read_checkpoint(reference.checkpoint_file, exchange, int(reference.hour))


def _rebuilder(
    exchange: str, symbol: str, depth: int, cadence: Cadence, reference: Any, numbers: Numbers
) -> Rebuilder:
    opening = Opening()
    if reference.checkpoint_file:
        opening = opening_of(_opening(exchange, reference), numbers)
    return Rebuilder(exchange, symbol, FEEDS[reference.feed], depth, cadence, numbers, opening)
