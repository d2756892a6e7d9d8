"""Damage every kind of file of a warehouse: `verify` finds the damage and names a remedy that repairs it."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from damage import OF_RUNS, SEED, Case, Judge, Original, build, cases

pytestmark = pytest.mark.spark

SAMPLED, PARTS = 60, 4
ALONE = ("removed", "emptied", "truncated", "flipped", "swapped")
"""Damages that add no file."""


@pytest.fixture(scope="module")
def judge(spark, tmp_path_factory) -> Judge:
    return Judge(build(tmp_path_factory.mktemp("sound")))


def judged(judge: Judge, chosen: list[Case], folder: Path) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Judge cases; count outcomes by damage, and list failures."""
    counts: Counter[tuple[str, str]] = Counter()
    failed = []
    for number, case in enumerate(chosen):
        try:
            counts[case.damage, judge.outcome(case, folder / str(number))] += 1
        except Exception as error:  # a traceback is a failure like others: the table goes on
            failed.append(f"{case}: {type(error).__name__}: {error}"[:2000])
    return counts, failed


def test_sampled_damage_is_found_and_repaired(judge, tmp_path):
    chosen = random.Random(SEED).sample(cases(judge.original.warehouse), SAMPLED)
    _, failed = judged(judge, chosen, tmp_path)
    assert not failed, "\n".join(failed)


def test_sampled_damage_of_an_earlier_version_is_found_and_repaired(judge, tmp_path):
    earlier, cases_of_runs = of_an_earlier_version(judge, tmp_path)
    _, failed = judged(earlier, random.Random(SEED).sample(cases_of_runs, SAMPLED // 4), tmp_path)
    assert not failed, "\n".join(failed)


def of_an_earlier_version(judge: Judge, folder: Path) -> tuple[Judge, list[Case]]:
    """Without second copies: of `runs`, `written` and logs, what runs have recorded is all there is."""
    shutil.copytree(judge.original.folder, folder / "earlier")
    for copies in (folder / "earlier").glob("*/_copies"):
        shutil.rmtree(copies)
    earlier = Judge(Original(folder / "earlier", judge.original.rows))
    every = [case for case in cases(earlier.original.warehouse) if case.damage in ALONE]
    return earlier, [case for case in every if case.path.split("/")[0] in OF_RUNS]


@pytest.mark.long
@pytest.mark.parametrize("part", range(PARTS))
def test_every_damage_is_found_and_repaired(judge, tmp_path, capsys, part):
    """In parts that can be run side by side; a kind of file is in one of them."""
    every = cases(judge.original.warehouse)
    kinds = [*dict.fromkeys(case.kind for case in every)]
    chosen = [case for case in every if kinds.index(case.kind) % PARTS == part]
    counts, failed = judged(judge, chosen, tmp_path)
    with capsys.disabled():
        print("", *table_of(counts), *failed, sep="\n")  # noqa: T201
    assert not failed


@pytest.mark.long
def test_every_damage_of_an_earlier_version_is_found_and_repaired(judge, tmp_path, capsys):
    earlier, cases_of_runs = of_an_earlier_version(judge, tmp_path)
    counts, failed = judged(earlier, cases_of_runs, tmp_path)
    with capsys.disabled():
        print("", *table_of(counts), *failed, sep="\n")  # noqa: T201
    assert not failed


def table_of(counts: Counter[tuple[str, str]]) -> list[str]:
    """Outcomes by damage, for people."""
    damages = sorted({damage for damage, _ in counts})
    lines = [f"{'':<72}" + "".join(f"{damage:>13}" for damage in damages) + f"{'all':>8}"]
    for outcome in sorted({outcome for _, outcome in counts}):
        row = [counts[damage, outcome] for damage in damages]
        lines.append(f"{outcome:<72}" + "".join(f"{count or '':>13}" for count in row) + f"{sum(row):>8}")
    return [*lines, f"{counts.total()} damages"]
