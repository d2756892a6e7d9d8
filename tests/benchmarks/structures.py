"""Data structures for an order book, each as a numba kernel that returns the top levels after every message.

Deltabook's structure is ranks with a bitmap; its kernel is called unchanged. The other structures are
alternatives. All kernels take prices in ticks, write prices and sizes as ``int64[m, 2, depth]``, best first,
and return the last book.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from level_changes import LevelChanges
from numba import types
from numba.typed import Dict

from deltabook.schemas.names import NOT_GIVEN, Status
from deltabook.udfs.numba_kernel import kernel
from deltabook.udfs.orderbook.bitmaps import highest_at_or_below
from deltabook.udfs.orderbook.book import Book, SideChanges
from deltabook.udfs.orderbook.continuity import APPLY, RESET, UpdateVerdicts
from deltabook.udfs.orderbook.known_range import NOTHING_KNOWN
from deltabook.udfs.orderbook.ranked_book import ASK, BID

BATCH_MESSAGES = 8192
"""As many as the product reads at a time."""
PAGE_BITS = 12
NEAR_LEVELS = 64
"""Levels a side that the sorted array holds above the hash."""

Tops = tuple[np.ndarray, np.ndarray]
Step = Callable[[int, int], Tops]
"""Plays messages ``start:end`` and gives their tops."""
Whole = Callable[[], tuple[dict[int, int], dict[int, int]]]


def ranks(changes: LevelChanges, depth: int) -> tuple[Step, Whole]:
    """The product's kernel: arrays by rank, bitmaps, and top levels that are scanned only when reached."""
    empty = (np.empty(0, np.int64), np.empty(0, np.int64))
    book = Book(
        empty, empty, depth, int(Status.UNSEEDED), (NOTHING_KNOWN, NOTHING_KNOWN), has_whole_snapshots=True
    )
    sides = []
    for chosen in (changes.is_bid, ~changes.is_bid):
        before = np.concatenate(([0], np.cumsum(chosen)))
        sides.append((before[changes.offsets], changes.prices[chosen], changes.sizes[chosen]))

    def part(side: int, start: int, end: int) -> SideChanges:
        offsets, prices, sizes = sides[side]
        low, high = offsets[start], offsets[end]
        return SideChanges(offsets[start : end + 1] - low, prices[low:high], sizes[low:high])

    def step(start: int, end: int) -> Tops:
        n = end - start
        action = np.full(n, APPLY, np.int8)
        action[: start == 0] = RESET
        nothing = np.full(n, NOT_GIVEN, np.int64)
        verdicts = UpdateVerdicts(
            action,
            np.full(n, Status.VERIFIED, np.int8),
            nothing.astype(np.int8),
            nothing,
            nothing.copy(),
        )
        tops = book.apply(part(BID, start, end), part(ASK, start, end), verdicts, None, every_message=True)
        return tops.prices, tops.sizes

    def whole() -> tuple[dict[int, int], dict[int, int]]:
        bids, asks = (dict(zip(*(array.tolist() for array in side), strict=True)) for side in book.sides)
        return bids, asks

    return step, whole


def _stepping(changes: LevelChanges, depth: int, play: Any, *state: Any) -> Step:
    def step(start: int, end: int) -> Tops:
        shape = (end - start, 2, depth)
        prices, sizes = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        play(
            changes.offsets,
            changes.is_bid,
            changes.prices,
            changes.sizes,
            start,
            end,
            depth,
            prices,
            sizes,
            *state,
        )
        return prices, sizes

    return step


# --- a ladder by tick, in pages made when first met, with a bitmap of two levels ---


@kernel
def _page(table, count, tick):
    """Return the page of a tick, made if need be."""
    number = tick >> PAGE_BITS
    if table[number] < 0:
        table[number] = count[0]
        count[0] += 1
    return table[number]


@kernel
def _best_tick(table, words, filled, start):
    """Highest occupied tick at or below `start`, or -1: in its page, else by the bitmap of filled pages."""
    number = start >> PAGE_BITS
    page = table[number]
    if page >= 0:
        found = highest_at_or_below(words[page], start & ((1 << PAGE_BITS) - 1))
        if found >= 0:
            return (number << PAGE_BITS) + found
    number = highest_at_or_below(filled, number - 1)
    if number < 0:
        return -1
    page = table[number]
    return (number << PAGE_BITS) + highest_at_or_below(words[page], (1 << PAGE_BITS) - 1)


@kernel
def _play_pages(offsets, is_bid, prices, new_sizes, start, end, depth, prices_out, sizes_out, bounds,
                tables, counts, sizes, words, levels, filled, best, floor, tops, top_sizes):  # fmt: skip
    mask = (1 << PAGE_BITS) - 1
    for message in range(start, end):
        touched = np.zeros(2, np.bool_)
        for index in range(offsets[message], offsets[message + 1]):
            side = 0 if is_bid[index] else 1
            tick = prices[index] - bounds[0] if side == 0 else bounds[1] - prices[index]
            page = _page(tables[side], counts[side : side + 1], tick)
            at, size = tick & mask, new_sizes[index]
            old = sizes[side, page, at]
            if old == size:
                continue
            sizes[side, page, at] = size
            if tick >= floor[side]:
                touched[side] = True
            bit = np.uint64(1) << np.uint64(at & 63)
            if old == 0:
                words[side, page, at >> 6] |= bit
                levels[side, page] += 1
                best[side] = max(best[side], tick)
            elif size == 0:
                words[side, page, at >> 6] &= ~bit
                levels[side, page] -= 1
            number = tick >> PAGE_BITS
            if levels[side, page]:
                filled[side, number >> 6] |= np.uint64(1) << np.uint64(number & 63)
            else:
                filled[side, number >> 6] &= ~(np.uint64(1) << np.uint64(number & 63))
        for side in range(2):
            if touched[side]:
                tick = _best_tick(tables[side], words[side], filled[side], best[side])
                best[side] = tick
                listed = 0
                while tick >= 0 and listed < depth:
                    tops[side, listed] = bounds[0] + tick if side == 0 else bounds[1] - tick
                    top_sizes[side, listed] = sizes[side, tables[side, tick >> PAGE_BITS], tick & mask]
                    listed += 1
                    floor[side] = tick
                    tick = _best_tick(tables[side], words[side], filled[side], tick - 1) if tick else -1
                if listed < depth:
                    floor[side] = -1
            prices_out[message - start, side] = tops[side]
            sizes_out[message - start, side] = top_sizes[side]


def paged_ladder(changes: LevelChanges, depth: int) -> tuple[Step, Whole]:
    """Sizes by tick in pages of 4,096 ticks."""
    low, high = int(changes.prices.min()), int(changes.prices.max())
    n_pages = ((high - low) >> PAGE_BITS) + 1
    met = len(np.unique((changes.prices - low) >> PAGE_BITS)) + len(
        np.unique((high - changes.prices) >> PAGE_BITS)
    )
    sizes = np.zeros((2, met, 1 << PAGE_BITS), np.int64)
    words = np.zeros((2, met, (1 << PAGE_BITS) // 64), np.uint64)
    tables = np.full((2, n_pages), -1, np.int64)
    state = (
        np.array([low, high]), tables, np.zeros(2, np.int64), sizes, words, np.zeros((2, met), np.int64),
        np.zeros((2, n_pages // 64 + 1), np.uint64), np.full(2, -1, np.int64), np.full(2, -1, np.int64),
        np.zeros((2, depth), np.int64), np.zeros((2, depth), np.int64),
    )  # fmt: skip

    def whole() -> tuple[dict[int, int], dict[int, int]]:
        sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        for side in (0, 1):
            for number in np.flatnonzero(tables[side] >= 0).tolist():
                page = sizes[side, tables[side, number]]
                for at in np.flatnonzero(page).tolist():
                    tick = (number << PAGE_BITS) + at
                    sides[side][low + tick if side == 0 else high - tick] = int(page[at])
        return sides

    return _stepping(changes, depth, _play_pages, *state), whole


# --- the best levels in a sorted array, the others in a hash ---


@numba.njit
def _play_near(offsets, is_bid, prices, new_sizes, start, end, depth, prices_out, sizes_out,
               near, near_sizes, listed, far_bids, far_asks):  # fmt: skip
    for message in range(start, end):
        for index in range(offsets[message], offsets[message + 1]):
            side = 0 if is_bid[index] else 1
            far = far_bids if side == 0 else far_asks
            key = -prices[index] if side == 0 else prices[index]  # ascending from the best
            size = new_sizes[index]
            n = listed[side]
            if n and key > near[side, n - 1] and (n == NEAR_LEVELS or len(far)):
                if size:
                    far[key] = size
                elif key in far:
                    del far[key]
                continue
            at = np.searchsorted(near[side, :n], key)
            if at < n and near[side, at] == key:
                if size:
                    near_sizes[side, at] = size
                    continue
                near[side, at : n - 1] = near[side, at + 1 : n].copy()
                near_sizes[side, at : n - 1] = near_sizes[side, at + 1 : n].copy()
                listed[side] = n - 1
                if n - 1 < depth and len(far):  # take the next best from the hash
                    keys = np.empty(len(far), np.int64)
                    for place, held in enumerate(far):
                        keys[place] = held
                    keys.sort()
                    for held in keys[: NEAR_LEVELS // 2 + depth]:
                        if listed[side] == NEAR_LEVELS:
                            break
                        near[side, listed[side]] = held
                        near_sizes[side, listed[side]] = far.pop(held)
                        listed[side] += 1
                continue
            if not size:
                continue
            if n == NEAR_LEVELS:
                far[near[side, n - 1]] = near_sizes[side, n - 1]
                n -= 1
            near[side, at + 1 : n + 1] = near[side, at:n].copy()
            near_sizes[side, at + 1 : n + 1] = near_sizes[side, at:n].copy()
            near[side, at], near_sizes[side, at] = key, size
            listed[side] = n + 1
        for side in range(2):
            for place in range(min(depth, listed[side])):
                prices_out[message - start, side, place] = (
                    -near[side, place] if side == 0 else near[side, place]
                )
                sizes_out[message - start, side, place] = near_sizes[side, place]


def near_and_hash(changes: LevelChanges, depth: int) -> tuple[Step, Whole]:
    """The 64 best levels a side in a sorted array, the rest in a hash."""
    near, near_sizes = (np.zeros((2, NEAR_LEVELS), np.int64) for _ in range(2))
    listed = np.zeros(2, np.int64)
    far = [Dict.empty(types.int64, types.int64) for _ in range(2)]

    def whole() -> tuple[dict[int, int], dict[int, int]]:
        sides = []
        for side, sign in ((0, -1), (1, 1)):
            n = int(listed[side])
            levels = dict(zip((near[side, :n] * sign).tolist(), near_sizes[side, :n].tolist(), strict=True))
            sides.append(levels | {int(key) * sign: int(size) for key, size in far[side].items()})
        return sides[0], sides[1]

    return _stepping(changes, depth, _play_near, near, near_sizes, listed, *far), whole


# --- a hash alone ------------------------------------------------------------------------------------------


@numba.njit
def _play_dict(
    offsets, is_bid, prices, new_sizes, start, end, depth, prices_out, sizes_out, bids, asks, tops, top_sizes
):
    for message in range(start, end):
        touched = np.zeros(2, np.bool_)
        for index in range(offsets[message], offsets[message + 1]):
            side = 0 if is_bid[index] else 1
            book = bids if side == 0 else asks
            key, size = (-prices[index] if side == 0 else prices[index]), new_sizes[index]
            if tops[side, depth - 1] == 0 or key <= tops[side, depth - 1]:
                touched[side] = True
            if size:
                book[key] = size
            elif key in book:
                del book[key]
        for side in range(2):
            book = bids if side == 0 else asks
            if touched[side]:
                listed = 0
                for key in book:
                    if listed == depth and key >= tops[side, depth - 1]:
                        continue
                    at = min(listed, depth - 1)
                    while at and tops[side, at - 1] > key:
                        tops[side, at] = tops[side, at - 1]
                        at -= 1
                    tops[side, at] = key
                    listed = min(listed + 1, depth)
                tops[side, listed:] = 0
                for place in range(listed):
                    top_sizes[side, place] = book[tops[side, place]]
            prices_out[message - start, side] = -tops[side] if side == 0 else tops[side]
            sizes_out[message - start, side] = top_sizes[side]


def typed_dict(changes: LevelChanges, depth: int) -> tuple[Step, Whole]:
    """numba's typed dict; the top is searched among all levels whenever a change reaches it."""
    books = [Dict.empty(types.int64, types.int64) for _ in range(2)]
    tops, top_sizes = (np.zeros((2, depth), np.int64) for _ in range(2))

    def whole() -> tuple[dict[int, int], dict[int, int]]:
        bids = {-int(key): int(size) for key, size in books[0].items()}
        return bids, {int(key): int(size) for key, size in books[1].items()}

    return _stepping(changes, depth, _play_dict, *books, tops, top_sizes), whole


STRUCTURES = {
    "deltabook: ranks and bitmaps": ranks,
    "paged ladder": paged_ladder,
    "sorted array, hash below": near_and_hash,
    "typed dict": typed_dict,
}
