"""Measure the replay of books from a warehouse. Usage: python replay.py FOLDER [PEERS_PYTHON].

Eight symbol-hours of 8 M level changes are made and rebuilt once. Seeks go to random times in these hours.
Message rates are measured on the first hour, which other programs replay too. All programs must end with the
same book.
"""

from __future__ import annotations

import json
import random
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

from feeds import DELTABOOK, simulated
from kernel import peer
from lake_data import HOUR_NANOSECONDS, LOTS, TICKS, hours_file
from level_changes import LevelChanges, digest_of_book
from measure import keep_best, measure
from peer_replays import REPLAYS, csv_of, write_csv
from report import tell

from deltabook.jobs.replay.replayer import Replayer

SYMBOL = "BTC-USDT"
HOURS = 8
SEEKS, ROUNDS = 200, 3
CHANGES, FEW_CHANGES = 6_000_000, 300_000
"""Played by what is compiled, and by Python loops."""
COMPILED = "hftbacktest HashMap"
OMITS = {
    f"{COMPILED}, its own compiled loop": "disk, ids, gaps, statuses; the loop cannot be Python",
    "hftbacktest, from Python": "disk, ids, gaps, statuses",
    "Tardis records + sortedcontainers": "ids, gaps, statuses; prices are floats",
}


def built(folder: Path) -> Path:
    """Build the warehouse."""
    root = folder / "warehouse replay"
    shutil.rmtree(root, ignore_errors=True)
    lake = hours_file(folder / f"{HOURS} hours, seeded", HOURS, with_seed=True)
    command = [str(DELTABOOK), "run", "crypto_lake", str(lake), "--warehouse", str(root)]
    measure([*command, "--seed", "golden", "--no-validate"])
    return root


def changes_of_an_hour(folder: Path) -> dict[int, Path]:
    """Make the files of the first hour's changes, if they are not there."""
    files = {count: folder / "changes" / f"replayed {count}.npz" for count in (CHANGES, FEW_CHANGES)}
    if not all(file.exists() for file in files.values()):
        whole = simulated(folder)
        for count, file in files.items():
            whole.first(count).save(file)
    few = files[FEW_CHANGES]
    if not csv_of(few).exists():
        write_csv(LevelChanges.load(few), csv_of(few))
    return files


def timed_seeks(replayer: Replayer, times: Iterable[int], step: bool = False) -> list[float]:
    """Milliseconds of each seek, the best prices read; with the first step after it if told."""
    took = []
    for time in times:
        started = perf_counter()
        seen = replayer.seek(time=time)
        if step:
            seen = replayer.step()
        _ = seen.bid_prices[0], seen.ask_prices[0]
        took.append((perf_counter() - started) * 1000)
    return took


def seeks(root: Path) -> list[dict[str, Any]]:
    """How long it takes to get to random places; this process has replayed nothing before."""
    chance = random.Random(1)
    started = perf_counter()
    replayer = Replayer(root, SYMBOL)
    opened = [(perf_counter() - started) * 1000]
    margin = HOUR_NANOSECONDS // 100
    whole = range(replayer.start + margin, replayer.start + HOURS * HOUR_NANOSECONDS - margin)
    rows = {"opening, in a new process": opened}
    rows["first seek of the process, which loads the kernels"] = timed_seeks(
        replayer, chance.sample(whole, 1)
    )
    cold = []
    for _ in range(ROUNDS):
        another = Replayer(root, SYMBOL)
        hours = chance.sample(range(HOURS), HOURS)
        cold += timed_seeks(
            another,
            (whole.start + hour * HOUR_NANOSECONDS + chance.randrange(len(whole) // HOURS) for hour in hours),
        )
    rows["first seek into an hour"] = cold
    timed_seeks(replayer, range(whole.start, whole.stop, HOUR_NANOSECONDS // 2))
    rows["later seeks"] = timed_seeks(replayer, chance.sample(whole, SEEKS))
    rows["later seeks, and a step"] = timed_seeks(replayer, chance.sample(whole, SEEKS), step=True)
    return [
        {"what": what, "times": len(took), "median, ms": statistics.median(took),
         "p90, ms": sorted(took)[len(took) * 9 // 10], "most, ms": max(took)}
        for what, took in rows.items()
    ]  # fmt: skip


def stepped(replayer: Replayer) -> tuple[float, int]:
    """Seconds of a Python loop over every message that touches the best prices, and how many."""
    messages = 0
    started = perf_counter()
    for seen in replayer:
        bids, asks = seen.bid_prices, seen.ask_prices
        if len(bids) and len(asks):
            _ = bids[0], asks[0]
        messages += 1
    return perf_counter() - started, messages


def in_batches(replayer: Replayer) -> tuple[float, int]:
    """Seconds of all batches, and their rows."""
    started = perf_counter()
    messages = sum(batch.num_rows for batch in replayer.replay_batches())
    return perf_counter() - started, messages


def last_book(replayer: Replayer) -> str:
    """The digest of the full book that is seen, in ticks and lots."""
    units = [10**scale // per for scale, per in zip(replayer.scales, (TICKS, LOTS), strict=True)]
    book = replayer.observation.full_book()
    sides = (
        dict(zip((book[f"{side}_prices"] // units[0]).tolist(), (book[f"{side}_sizes"] // units[1]).tolist(),
                 strict=True))
        for side in ("bid", "ask")
    )  # fmt: skip
    return digest_of_book(*sides)


def ours(root: Path, changes: LevelChanges) -> dict[str, dict[str, Any]]:
    """deltabook's ways through some changes: seconds, and the last book."""
    replayer = Replayer(root, SYMBOL)
    end = replayer.seek(sequence=changes.messages).time + 1
    found = {}
    for name, way in (
        ("deltabook, for seen in Replayer(…)", stepped),
        ("deltabook, replay_batches()", in_batches),
    ):
        replayer = Replayer(root, SYMBOL, end=end)
        seconds, messages = way(replayer)
        if messages != changes.messages + 1:  # the vendor's book that seeded the rest
            raise SystemExit(f"{name}: {messages:,} messages, not {changes.messages + 1:,}")
        found[name] = {"seconds": seconds, "changes": len(changes.prices), "messages": messages}
        found[name]["book"] = last_book(replayer)
    return found


def theirs(python: str, files: dict[int, Path]) -> dict[str, dict[str, Any]]:
    """The peers' ways: what each tells of itself."""
    compiled = peer(python, COMPILED, files[CHANGES], 1)
    compiled["messages"] = LevelChanges.load(files[CHANGES]).messages
    found = {f"{COMPILED}, its own compiled loop": compiled}
    for name in REPLAYS:
        command = [python, str(Path(__file__).with_name("peer_replays.py")), name, str(files[FEW_CHANGES])]
        found[name] = json.loads(measure(command).stdout.splitlines()[-1])
    return found


def main(folder: Path, peers_python: str | None) -> None:
    root, files = built(folder), changes_of_an_hour(folder)
    played = {count: LevelChanges.load(file) for count, file in files.items()}
    few = next(iter(ours(root, played[FEW_CHANGES]).values()))
    # In a process of its own, which has loaded nothing yet of what is compiled by now.
    told = subprocess.run([sys.executable, __file__, str(root), "seeks"], check=True, stdout=subprocess.PIPE)
    rows = json.loads(told.stdout)
    notes = (
        "The clock is `received`. An hour's first seek reads when its messages come, and its checkpoints.",
    )
    tell(folder, "seeks", f"Seeks at random within {HOURS} symbol-hours of 8 M level changes", rows, notes)
    best: dict[str, dict[str, Any]] = {}
    for _ in range(ROUNDS):
        for name, found in (ours(root, played[CHANGES]) | _peers(peers_python, files)).items():
            keep_best(best, name, found)
    expected = {len(played[FEW_CHANGES].prices): few["book"]}
    expected[len(played[CHANGES].prices)] = next(iter(best.values()))["book"]
    rows = []
    for name, found in best.items():
        if found["book"] != expected[found["changes"]]:
            raise SystemExit(f"{name}: another last book than deltabook's")
        rows.append({
            "replay": name, "level changes": found["changes"], "messages": found["messages"],
            "seconds": found["seconds"], "messages/s": found["messages"] / found["seconds"],
            "M changes/s": found["changes"] / found["seconds"] / 1e6, "omits": OMITS.get(name, ""),
        })  # fmt: skip
    title = f"Replaying an hour message by message, the best prices read after each, best of {ROUNDS} rounds"
    notes = (
        "deltabook reads the warehouse's files and shows 20 levels a side, a batch all of them as columns.",
        "Each program's last book equals deltabook's, at full depth.",
    )
    tell(folder, "replay", title, rows, notes)


def _peers(python: str | None, files: dict[int, Path]) -> dict[str, dict[str, Any]]:
    return theirs(python, files) if python else {}


if __name__ == "__main__":
    if sys.argv[2:] == ["seeks"]:
        print(json.dumps(seeks(Path(sys.argv[1]))))
    else:
        main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
