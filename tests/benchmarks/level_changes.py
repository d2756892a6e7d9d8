"""Store level changes as plain arrays, which every program of the kernel benchmark can read.

This module needs only numpy.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class LevelChanges:
    """A feed without a gap, from an empty book on.

    Attributes
    ----------
    offsets : int64[m + 1]
        Message i holds the changes ``offsets[i]:offsets[i + 1]``.
    is_bid : bool[n]
        Side of each change; a message's bids stand before its asks.
    prices, sizes : int64[n]
        In ticks and lots; a size of 0 deletes.
    tick, lot : float
        What one of each is worth.
    """

    offsets: np.ndarray
    is_bid: np.ndarray
    prices: np.ndarray
    sizes: np.ndarray
    tick: float
    lot: float

    @classmethod
    def load(cls, path: Path) -> LevelChanges:
        with np.load(path) as file:
            arrays = {name: file[name] for name in ("offsets", "is_bid", "prices", "sizes")}
            return cls(**arrays, tick=float(file["tick"]), lot=float(file["lot"]))

    def save(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **vars(self))
        return path

    @property
    def messages(self) -> int:
        return len(self.offsets) - 1

    def first(self, changes: int) -> LevelChanges:
        """The whole messages among the first changes."""
        messages = max(int(np.searchsorted(self.offsets, changes, side="right")) - 1, 1)
        end = self.offsets[messages]
        arrays = (array[:end] for array in (self.is_bid, self.prices, self.sizes))
        return LevelChanges(self.offsets[: messages + 1], *arrays, tick=self.tick, lot=self.lot)

    def repeated(self, changes: int) -> LevelChanges:
        """Play it again and again; in between, one message takes the last book back to the first one."""
        book, opening = self.book(self.messages), self.book(1)
        back = [
            (is_bid, price, opening[is_bid].get(price, 0))
            for is_bid in (True, False)
            for price in sorted(book[is_bid].keys() | opening[is_bid].keys())
            if book[is_bid].get(price, 0) != opening[is_bid].get(price, 0)
        ]
        between = LevelChanges(
            np.array([0, len(back)]),
            *(np.array(column) for column in zip(*back, strict=True)),
            self.tick,
            self.lot,
        )
        start = int(self.offsets[1])
        again = LevelChanges(
            self.offsets[1:] - start,
            self.is_bid[start:],
            self.prices[start:],
            self.sizes[start:],
            self.tick,
            self.lot,
        )
        times = max(0, -(-(changes - len(self.prices)) // (len(again.prices) + len(back))))
        parts = [self, *[between, again] * times]
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        columns = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("is_bid", "prices", "sizes")
        )
        return LevelChanges(np.concatenate(([0], np.cumsum(lengths))), *columns, self.tick, self.lot)

    def book(self, messages: int) -> dict[bool, dict[int, int]]:
        """The book after some messages, by side and price."""
        end = int(self.offsets[messages])
        sides: dict[bool, dict[int, int]] = {True: {}, False: {}}
        columns = (column[:end].tolist() for column in (self.is_bid, self.prices, self.sizes))
        for is_bid, price, size in zip(*columns, strict=True):
            if size:
                sides[is_bid][price] = size
            else:
                sides[is_bid].pop(price, None)
        return sides


def digest_of_book(bids: dict[int, int], asks: dict[int, int]) -> str:
    """Tell two books apart, at full depth."""
    levels = np.array(sorted(bids.items()) + sorted(asks.items()), dtype=np.int64)
    return hashlib.sha256(levels.tobytes()).hexdigest()[:16]


def digest_of_tops(prices: np.ndarray, sizes: np.ndarray | None = None) -> str:
    """Tell apart what was seen after each message: int64[m, 2, depth]; sizes where the program tells them."""
    parts = [prices] if sizes is None else [prices, sizes]
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(part, np.int64).tobytes() for part in parts)
    ).hexdigest()[:16]
