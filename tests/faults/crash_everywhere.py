"""Kill commands at every crash point, within every commit, and at random times: `make test-crash`.

pytest does not collect this file, because about two hundred kills take half an hour on two cores.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
from crashing import (
    SETTINGS,
    Scene,
    assert_each_file_is_in_once,
    assert_same,
    drivers,
    late_file,
    new_warehouse,
    replaced_file,
    state,
    taking_back,
)

pytestmark = pytest.mark.spark

SEED = 20240809
RANDOM_KILLS, COLD_KILLS = 8, 3
"""Of each scene; of all."""
_SQL_EVERY = 10
_KILLS_A_SESSION = 50
COMMITS = ("create", "add", "append", "overwrite", "delete", "restore")


class Tally:
    """What was killed and what came of it, by scene and kind of point."""

    def __init__(self) -> None:
        self.survived: Counter[tuple[str, str, str]] = Counter()
        self.failed: list[str] = []
        self.ended = 0

    def kill(self, scene: Scene, step: int, point: str, kind: tuple[str, str], **how: object) -> None:
        where = f"{scene.name}, {scene.commands[step][0]}, {point}"
        try:
            asked = self.survived.total() % _SQL_EVERY == 0
            if scene.survive(step, asked=asked, **how):
                self.survived[(scene.name, *kind)] += 1
            else:
                self.ended += 1
        except AssertionError as error:
            self.failed.append(f"{where}: {error}")
        if self.survived.total() % _KILLS_A_SESSION == 0 or drivers().process.poll() is not None:
            drivers().end()

    def lines(self) -> list[str]:
        whens = ("before", "inside", "after", "at random")
        lines = [f"{'killed':<28}" + "".join(f"{when:>11}" for when in whens)]
        for scene, action in sorted({key[:2] for key in self.survived}, key=str):
            counts = [self.survived[scene, action, when] for when in whens]
            lines.append(f"{scene + ': ' + action:<28}" + "".join(f"{count or '':>11}" for count in counts))
        lines.append(f"{self.survived.total()} survived, {len(self.failed)} not, {self.ended} came too late")
        return lines + self.failed


def kills_of(scene: Scene, seen: set[str]) -> list[tuple[int, str, str, dict[str, object]]]:
    """List step, point, when and how of every kill: at points not met before, and within their commits."""
    found: list[tuple[int, str, str, dict[str, object]]] = []
    for step, points in enumerate(scene.points):
        for point in points:
            name, _ = point.split(":")
            action, *_, when = name.split(".")
            key = f"{scene.commands[step][0]} {name}"
            if when == "before" and step == 0:  # what is taken in is another thing in every scene
                key += f", {scene.name}"
            if key in seen:
                continue
            seen.add(key)
            found.append((step, point, when, {"crash_at": point}))
            if when == "before" and action in COMMITS:
                found.append((step, point, "inside", {"inside": point}))
    return found


def test_a_command_killed_with_its_jvm_leaves_nothing_running_and_is_done_again(capsys):
    scene = new_warehouse()
    how = ("--archive", "--warehouse", scene.warehouse, "--master", "local[2]")
    command = ("run", "binance", *scene.commands[0][2:4], *how)
    chosen, survived = random.Random(SEED), 0
    for _ in range(COLD_KILLS):
        scene.put_back(0)
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", "from deltabook.jobs.cli.program import main; main()", *map(str, command)],
            env=os.environ | SETTINGS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (scene.warehouse / ".lock").exists():
            time.sleep(0.05)
            assert process.poll() is None and time.monotonic() - started < 120
        time.sleep(chosen.uniform(0, scene.seconds[0]))
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        survived += process.wait() == -signal.SIGKILL
        _, alive = psutil.wait_procs(family, timeout=60)
        assert not alive
        assert state(scene.warehouse) in scene.states
        told = drivers().run(*scene.commands)
        assert [status for status, *_ in told["outcomes"]] == scene.statuses
        assert_same(state(scene.warehouse), scene.states[-1], "run again")
        assert_each_file_is_in_once(scene.warehouse)
    with capsys.disabled():
        print(f"\n{survived} kills of a command with its JVM survived")  # noqa: T201


def test_kills_everywhere(capsys):
    tally, seen, chosen = Tally(), set[str](), random.Random(SEED)
    for make in (new_warehouse, late_file, replaced_file, lambda: taking_back(late_file())):
        scene = make()
        for step, point, when, how in kills_of(scene, seen):
            tally.kill(scene, step, f"{when} {point}", (point.split(".")[0], when), **how)
        scene.put_back(0)
        seconds = drivers().run(*scene.commands)["seconds"]  # warm
        for _ in range(RANDOM_KILLS):
            after = chosen.uniform(0, seconds)
            told = f"after {after:.2f} s"
            tally.kill(scene, 0, told, ("all commands", "at random"), after=after, through=True)
        with capsys.disabled():
            print("", *tally.lines(), sep="\n")  # noqa: T201
    assert not tally.failed
    assert tally.survived.total() >= 50
