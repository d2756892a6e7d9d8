"""Boundaries of chunks: each chunk is a range of positions in a stream.

A position combines an epoch and an id in one number. Among all messages whose times lie in the chunk or
later, the message with the lowest position starts the chunk.

After ids have been stored on both sides of a boundary, the boundary never moves. So a late file never moves a
stored event into another chunk.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltabook.schemas.names import HOUR, NOT_GIVEN

_IDS = 2**64
LEAST, END = -(2**127), 2**127
"""`LEAST` is below every position, `END` is above every position."""


def make_position(epoch: int, sequence: int) -> int:
    """Return the position of an id in its stream, a number that increases over all epochs.

    Parameters
    ----------
    epoch : int
        Id epoch of the message.
    sequence : int
        Id of the message.
    """
    return epoch * _IDS + sequence


def split_position(position: int) -> tuple[int, int]:
    """Return the epoch and the id of a position; `END` gives an epoch above all real epochs, and the id 0.

    Parameters
    ----------
    position : int
        Result of `make_position`, or `END`.
    """
    if position == END:
        return 2**62, 0
    epoch = (position + _IDS // 2) // _IDS
    return epoch, position - epoch * _IDS


@dataclass(frozen=True)
class IdRange:
    """The positions of one stream in one chunk.

    Attributes
    ----------
    hour : int
        Start of the chunk, ns since 1970 UTC.
    first, last : int
        Lowest and highest position, both inclusive.
    """

    hour: int
    first: int
    last: int


@dataclass(frozen=True)
class IdGroup:
    """Messages of one staged file whose times lie in one chunk.

    Attributes
    ----------
    time : int
        Start of the chunk, ns since 1970 UTC; NOT_GIVEN for messages without a time.
    first, last : int
        Lowest and highest position, both inclusive.
    received : int
        Earliest receive time, ns since 1970 UTC; NOT_GIVEN if no message has a receive time.
    """

    time: int
    first: int
    last: int
    received: int = NOT_GIVEN


def merge_chunks(stored: list[IdRange], groups: list[IdGroup], length: int = HOUR) -> list[IdRange]:
    """Assign new messages of a stream to chunks, and return all chunks.

    Parameters
    ----------
    stored : list of IdRange
        Chunks of the stream so far, ascending.
    groups : list of IdGroup
        The new messages, in any order; not empty.
    length : int
        Length of a chunk, ns.

    Returns
    -------
    list of IdRange
        All chunks, ascending and disjoint; the field `last` of a chunk includes the chunk's new messages. If
        a new id lies below the first chunk, the first chunk is extended to this id.
    """
    starts = {chunk.hour: chunk.first for chunk in stored}
    reached = END
    for time in sorted({group.time for group in groups if group.time != NOT_GIVEN}, reverse=True):
        reached = min(reached, min(group.first for group in groups if group.time == time))
        before = max((chunk.last for chunk in stored if chunk.hour < time), default=LEAST)
        if reached < starts.get(time, END) and (time not in starts or before < reached):
            starts[time] = max(reached, before + 1)
    if not starts:
        received = [group.received for group in groups if group.received != NOT_GIVEN]
        hour = min(received) // length * length if received else 0
        starts[hour] = min(group.first for group in groups)
    hours = sorted(starts)
    least = min([group.first for group in groups] + [starts[hour] for hour in hours])
    merged: list[IdRange] = []
    end = END
    for hour in reversed(hours):
        if starts[hour] >= end:
            continue  # the ids of all messages of this time lie in a later chunk, whose boundary is fixed
        first = starts[hour]
        if not any(starts[other] < first for other in hours if other < hour):
            first = min(least, first)
        new = [group for group in groups if group.first < end and group.last >= first]
        lasts = [min(group.last, end - 1) for group in new]
        lasts += [chunk.last for chunk in stored if chunk.hour == hour]
        if lasts:
            merged.append(IdRange(hour, first, max(lasts)))
            end = first
    return merged[::-1]


def find_chunk_bounds(chunks: list[IdRange]) -> dict[int, tuple[int, int]]:
    """Return ``{start of a chunk: (first position, first position of the next chunk)}``.

    Parameters
    ----------
    chunks : list of IdRange
        Chunks of one stream, ascending. The last chunk ends at `END`.
    """
    next_firsts = [*(chunk.first for chunk in chunks[1:]), END][: len(chunks)]
    return {chunk.hour: (chunk.first, end) for chunk, end in zip(chunks, next_firsts, strict=True)}
