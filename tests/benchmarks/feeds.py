"""Make the level changes for the kernel benchmark, from real captures and from a simulated hour."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable
from lake_data import LOTS, TICKS, hours_file
from level_changes import LevelChanges

from deltabook.schemas.feeds import FEEDS
from deltabook.udfs.orderbook.continuity import IGNORE, RESET, UpdateIds, check_updates, initial_state

CAPTURES = Path(__file__).parents[3] / "shared" / "data" / "binance"
DELTABOOK = Path(sys.executable).with_name("deltabook")


def changes_of(folder: Path) -> dict[str, Path]:
    """Make the files of level changes in a folder, if they are not there; captures only where they are."""
    wanted = {"simulated": lambda: simulated(folder)}
    if CAPTURES.is_dir():
        wanted = {
            f"captured {market}": lambda market=market: captured(folder, market)
            for market in ("spot", "usdm")
        } | wanted
    files = {name: folder / "changes" / f"{name}.npz" for name in wanted}
    for name, file in files.items():
        if not file.exists():
            wanted[name]().save(file)
    return files


def simulated(folder: Path) -> LevelChanges:
    """An hour of 8 M changes of the benchmarks' market."""
    (file,) = hours_file(folder / "1 hours").rglob("book_delta_v2/**/*.parquet")
    return changes_in(file)


def changes_in(file: Path) -> LevelChanges:
    """The level changes of a simulated Crypto Lake file."""
    with file.open("rb") as stream:
        table = pq.read_table(stream, columns=["sequence_number", "side_is_bid", "price", "size"])
    message = table["sequence_number"].to_numpy()
    order = np.lexsort((~table["side_is_bid"].to_numpy(), message))
    starts = np.flatnonzero(np.diff(message, prepend=message[0] - 1))
    scaled = [
        np.round(table[name].to_numpy() * scale).astype(np.int64)
        for name, scale in (("price", TICKS), ("size", LOTS))
    ]
    return LevelChanges(
        np.append(starts, len(message)),
        table["side_is_bid"].to_numpy()[order],
        scaled[0][order],
        scaled[1][order],
        1 / TICKS,
        1 / LOTS,
    )


def captured(folder: Path, market: str) -> LevelChanges:
    """A market's captures, from the snapshot on, without what the snapshot or an earlier diff contains."""
    root = folder / f"warehouse {market}"
    if not root.exists():
        files = sorted(map(str, (CAPTURES / market).glob("*.gz")))
        subprocess.run(
            [DELTABOOK, "ingest", "binance", *files, "--warehouse", str(root)],
            check=True,
            capture_output=True,
        )
    rows = DeltaTable(root / "events").to_pyarrow_table()
    rows = rows.filter(pc.equal(rows["event_type"], "book_update"))
    data = rows["data"].combine_chunks()
    columns = {name: rows[name] for name in ("epoch", "sequence", "source_file", "source_row")}
    columns |= {field.name: values for field, values in zip(data.type, data.flatten(), strict=True)}
    keys = [(name, "ascending") for name in ("epoch", "sequence", "is_snapshot", "source_file", "source_row")]
    table = pa.table(columns).sort_by(keys).combine_chunks()
    ids = [
        table[name].to_numpy()
        for name in ("is_snapshot", "epoch", "first_sequence", "prev_sequence", "sequence")
    ]
    nothing = np.zeros(len(table), dtype=np.bool_)
    verdicts, _ = check_updates(
        FEEDS["binance" if market == "spot" else "binance_futures"],
        UpdateIds(*ids, ~nothing, nothing),
        initial_state(),
    )
    if (verdicts.gap >= 0).any() or np.count_nonzero(verdicts.action == RESET) != 1:
        raise SystemExit(f"the captures of {market} are not one chain from one snapshot")
    table = table.take(pa.array(np.flatnonzero(verdicts.action != IGNORE)))
    parts = {
        side: [table[f"{side}_{what}"].combine_chunks() for what in ("prices", "sizes")]
        for side in ("bid", "ask")
    }
    lengths = [pc.list_value_length(parts[side][0]).to_numpy() for side in ("bid", "ask")]
    message = np.concatenate([np.repeat(np.arange(len(table)), length) for length in lengths])
    order = np.argsort(message, kind="stable")
    is_bid = np.repeat([True, False], [length.sum() for length in lengths])[order]
    prices, sizes = (
        np.concatenate([parts[side][place].flatten().to_numpy() for side in ("bid", "ask")])[order]
        for place in (0, 1)
    )
    tick, lot = int(np.gcd.reduce(prices)), int(np.gcd.reduce(sizes))
    offsets = np.concatenate(([0], np.cumsum(sum(lengths))))
    return LevelChanges(offsets, is_bid, prices // tick, sizes // lot, float(tick), float(lot))


def shape_of(changes: LevelChanges, depth: int = 20) -> dict[str, float]:
    """How lively a feed is: what its changes reach, and what its top does.

    Returns
    -------
    dict
        changes a message, levels a side at the end, share of changes within the top `depth`, share
        of messages that change it, messages after which the book is crossed.
    """
    import heapq

    sides: tuple[dict[int, int], dict[int, int]] = ({}, {})  # bids by negative price
    tops: list[list[tuple[int, int]]] = [[], []]
    within = changed = crossed = 0
    offsets = changes.offsets.tolist()
    for start, end in itertools.pairwise(offsets):
        columns = (column[start:end].tolist() for column in (changes.is_bid, changes.prices, changes.sizes))
        reached = [False, False]
        for is_bid, price, size in zip(*columns, strict=True):
            side, key = (0, -price) if is_bid else (1, price)
            if len(tops[side]) < depth or key <= tops[side][-1][0]:
                within += 1
                reached[side] = True
            if size:
                sides[side][key] = size
            else:
                sides[side].pop(key, None)
        new = [
            heapq.nsmallest(depth, sides[side].items()) if reached[side] else tops[side] for side in (0, 1)
        ]
        changed += new != tops
        tops = new
        crossed += bool(tops[0] and tops[1] and -tops[0][0][0] >= tops[1][0][0])
    return {
        "changes": len(changes.prices),
        "messages": changes.messages,
        "changes a message": len(changes.prices) / changes.messages,
        "levels a side": (len(sides[0]) + len(sides[1])) / 2,
        "changes within the top 20": within / len(changes.prices),
        "messages that change the top 20": changed / changes.messages,
        "messages that cross the book": crossed,
    }
