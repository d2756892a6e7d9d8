"""The type of one record: a dictionary with the columns of `schemas.frames.RECORDS` as Python values."""

from __future__ import annotations

from typing import TypedDict


class Record(TypedDict, total=False):
    """One parsed message, {column: value}; a column that is absent counts as not given.

    Functions may return a part of a record. For example, `scale_levels` returns only the columns of the
    levels.
    """

    record: str
    kind: str
    exchange: str
    symbol: str
    timestamp: int
    received: int
    sequence: int
    source_file: str
    source_row: int
    is_snapshot: bool
    first_sequence: int
    prev_sequence: int
    damaged: bool
    checksum: int
    price_digits: int
    size_digits: int
    kept_levels: int
    bid_prices: list[int]
    bid_sizes: list[int]
    ask_prices: list[int]
    ask_sizes: list[int]
    trade_id: int
    side: str
    price: int
    size: int
    level_changes: int
    price_scale: int
    size_scale: int
    wide: bytes
    reason: str
    raw: bytes
