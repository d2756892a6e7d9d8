"""Hours as ranges of positions: the least one whose time reaches an hour opens it.

A position is an id and its epoch in one number.

A boundary with stored ids on both sides is frozen, so that a late file never moves events that
other rows were built from.
"""

from __future__ import annotations

from dataclasses import dataclass

from deltabook.schemas.names import HOUR, NOT_GIVEN

_IDS = 2**64
LEAST, END = -(2**127), 2**127
"""Positions before and behind all others."""


def position(epoch: int, sequence: int) -> int:
    """Return the place of an id in its stream, over all epochs: a number that only grows."""
    return epoch * _IDS + sequence


def epoch_and_id(place: int) -> tuple[int, int]:
    """Return the epoch and id of a position; of `END`, ones behind all others."""
    if place == END:
        return 2**62, 0
    epoch = (place + _IDS // 2) // _IDS
    return epoch, place - epoch * _IDS


@dataclass(frozen=True)
class IdRange:
    """The positions of one stream in one hour.

    Attributes
    ----------
    hour : int
        Start of the hour, ns since 1970 UTC.
    first, last : int
        Least and greatest position, both included.
    """

    hour: int
    first: int
    last: int


@dataclass(frozen=True)
class IdGroup:
    """Messages of one staged file whose times lie in one hour.

    Attributes
    ----------
    time : int
        Start of that hour, or NOT_GIVEN for messages without a time.
    first, last : int
        Least and greatest position.
    received : int
        Least receive time, ns; NOT_GIVEN if there is none.
    """

    time: int
    first: int
    last: int
    received: int = NOT_GIVEN


def merge_hours(stored: list[IdRange], groups: list[IdGroup], chunk: int = HOUR) -> list[IdRange]:
    """Place new messages into hours.

    Parameters
    ----------
    stored : list of IdRange
        The stream's hours so far, ascending.
    groups : list of IdGroup
        What is new, in any order; not empty.
    chunk : int
        Length of an hour, ns.

    Returns
    -------
    list of IdRange
        All hours, ascending and disjoint; `last` counts what is new. A new id below the first hour
        belongs to it.
    """
    opened = {found.hour: found.first for found in stored}
    reached = END
    for time in sorted({group.time for group in groups if group.time != NOT_GIVEN}, reverse=True):
        reached = min(reached, min(group.first for group in groups if group.time == time))
        before = max((found.last for found in stored if found.hour < time), default=LEAST)
        if reached < opened.get(time, END) and (time not in opened or before < reached):
            opened[time] = max(reached, before + 1)
    if not opened:
        received = [group.received for group in groups if group.received != NOT_GIVEN]
        hour = min(received) // chunk * chunk if received else 0
        opened[hour] = min(group.first for group in groups)
    hours = sorted(opened)
    least = min([group.first for group in groups] + [opened[hour] for hour in hours])
    merged: list[IdRange] = []
    end = END
    for hour in reversed(hours):
        if opened[hour] >= end:
            continue  # every id that reached this hour lies in a later, frozen one
        first = opened[hour]
        if not any(opened[other] < first for other in hours if other < hour):
            first = min(least, first)
        new = [group for group in groups if group.first < end and group.last >= first]
        lasts = [min(group.last, end - 1) for group in new] + [
            found.last for found in stored if found.hour == hour
        ]
        if lasts:
            merged.append(IdRange(hour, first, max(lasts)))
            end = first
    return merged[::-1]


def ends(hours: list[IdRange]) -> dict[int, tuple[int, int]]:
    """Return ``{hour: (least position, least of the hour after)}``; the last hour has no end."""
    following = [*(found.first for found in hours[1:]), END][: len(hours)]
    return {found.hour: (found.first, end) for found, end in zip(hours, following, strict=True)}
