"""Time updates of an order book on one core: deltabook's kernel, other structures and other libraries.

Usage: python kernel.py FOLDER [PEERS_PYTHON]. The level changes of real captures and of a simulated hour are
applied twice. The first time, the best prices are read after every message. The second time, 20 levels per
side are read after every message.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from feeds import changes_of, shape_of
from level_changes import LevelChanges, digest_of_book, digest_of_tops
from measure import keep_best, measure
from peer_books import PEERS
from report import tell
from structures import BATCH_MESSAGES, STRUCTURES

ROUNDS = 2
CHANGES = 8_000_000
"""Played by what is compiled."""
FEW_CHANGES = 300_000
"""Played by Python loops, and by what searches all levels."""
SLOW = ("order_book", "nautilus_trader", "sortedcontainers", "typed dict", "lakeapi")
FEWEST_CHANGES = 30_000
SLOWEST = (("lakeapi", 20), ("nautilus_trader", 20), ("order_book", 20), ("typed dict", 20))
"""What sorts a whole side for its top 20."""
OMITS = {
    "lakeapi": "sizes; ids, gaps",
    "hftbacktest HashMap": "ids, gaps; prices are floats",
    "hftbacktest ROIVector": "ids, gaps; prices are floats",
    "order_book": "ids, gaps",
    "nautilus_trader": "gaps; its objects were made before",
    "sortedcontainers": "ids, gaps",
}


def played(name: str, changes: LevelChanges, depth: int, digests: bool = False) -> dict[str, Any]:
    """Play a structure of this project: seconds, or digests as `peer_books.py` tells them."""
    step, whole = STRUCTURES[name](changes, depth)
    bounds = [*range(0, changes.messages, BATCH_MESSAGES), changes.messages]
    parts = []
    seconds = 0.0
    for start, end in itertools.pairwise(bounds):
        started = perf_counter()
        tops = step(start, end)
        seconds += perf_counter() - started
        if digests:  # what is kept must be new memory, which would be timed too
            parts.append([_dense(values, end - start, depth) for values in tops])
    if not digests:
        return {"seconds": seconds, "changes": len(changes.prices)}
    prices, sizes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    tops = digest_of_tops(prices) if depth == 1 else digest_of_tops(prices, sizes)
    return {"book": digest_of_book(*whole()), "tops": tops}


def _dense(values: Any, messages: int, depth: int) -> np.ndarray:
    if isinstance(values, tuple):  # a side each, one after another
        return np.stack([side.reshape(messages, depth) for side in values], axis=1)
    return values


def amount(name: str, depth: int) -> int:
    if any(name.startswith(slow) and depth == of for slow, of in SLOWEST):
        return FEWEST_CHANGES
    return FEW_CHANGES if name.startswith(SLOW) else CHANGES


def peer(python: str, name: str, file: Path, depth: int) -> dict[str, Any]:
    command = [python, str(Path(__file__).with_name("peer_books.py")), name, str(file), str(depth)]
    told: dict[str, Any] = json.loads(measure(command).stdout.splitlines()[-1])
    return told


def main(folder: Path, peers_python: str | None) -> None:
    rows, shapes = [], []
    for feed, file in changes_of(folder).items():
        whole = LevelChanges.load(file)
        shapes.append({"feed": feed} | shape_of(whole.first(2 * FEW_CHANGES)))
        cuts = {FEWEST_CHANGES: whole.first(FEWEST_CHANGES), FEW_CHANGES: whole.first(FEW_CHANGES)}
        cuts[CHANGES] = whole.repeated(CHANGES).first(CHANGES)
        files = {n: cut.save(folder / "changes" / f"{feed} {n}.npz") for n, cut in cuts.items()}
        for depth in (1, 20):
            expected = {
                n: played("deltabook: ranks and bitmaps", cut, depth, True) for n, cut in cuts.items()
            }
            names = [*STRUCTURES, *(PEERS if peers_python else ())]
            best: dict[str, dict[str, Any]] = {}
            for _ in range(ROUNDS):
                for name in names:
                    cut = amount(name, depth)
                    if name in STRUCTURES:
                        told = played(name, cuts[cut], depth)
                    else:
                        told = peer(str(peers_python), name, files[cut], depth)
                    keep_best(best, name, told)
            ours = best["deltabook: ranks and bitmaps"]
            for name, told in best.items():
                cut = amount(name, depth)
                found = played(name, cuts[cut], depth, True) if name in STRUCTURES else told
                wrong = [what for what in ("book", "tops") if found[what] != expected[cut][what]]
                if wrong:
                    raise SystemExit(f"{name}, depth {depth}: not the same {' and '.join(wrong)}")
                rate = told["changes"] / told["seconds"] / 1e6
                rows.append({
                    "feed": feed, "out": "best prices" if depth == 1 else "20 levels", "book": name,
                    "M changes/s": rate, "times slower": ours["changes"] / ours["seconds"] / 1e6 / rate,
                    "changes": told["changes"], "omits": OMITS.get(name, ""),
                })  # fmt: skip
    tell(folder, "feeds", "The feeds: how lively they are", shapes)
    title = f"Order books on one core, the top read after every message, best of {ROUNDS} rounds"
    notes = (
        "Each program's last book, and what it told after every message, equal deltabook's.",
        "A gap, an id and a status are told by deltabook's kernel alone.",
    )
    tell(folder, "kernel", title, rows, notes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
