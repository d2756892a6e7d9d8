"""Documents are right: links have targets, commands and options exist, and examples print what is shown."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from places import PROJECT

from deltabook.jobs.cli.commands import app

LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=PROJECT, capture_output=True, text=True, check=True)
PAGES = sorted(PROJECT / name for name in LISTED.stdout.splitlines() if (PROJECT / name).is_file())
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"```.*?```", re.DOTALL)
WITHOUT_WAREHOUSE = ("jobs/CONTRIBUTING.md",)
"""Pages whose Python needs no warehouse; `test_queries` runs that of the others."""
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def name_of(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def anchors_of(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", page.read_text()), re.MULTILINE)
    plain = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_a_file_and_a_heading_of_it(page):
    for link in LINK.findall(FENCED.sub("", page.read_text())):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or anchor in anchors_of(target), f"{name_of(page)}: {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_exist(page):
    for name in re.findall(r"`((?:jobs|udfs|schemas|expectations|conf|tests)/[\w./-]+)`", page.read_text()):
        assert (PROJECT / name).exists(), f"{name_of(page)}: {name}"


def commands_of(page: Path) -> Iterator[list[str]]:
    """Command lines of deltabook in a page's console blocks, without environment and redirections."""
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        typed = re.sub(r"\\\n\s*", "", block)
        for line in re.findall(r"^\$ (?:\w+=\S+ )*(?:\S*/)?deltabook (.*)$", typed, re.MULTILINE):
            quoted = line.count('"') % 2 == 0
            if quoted:  # a statement of several lines is run by `test_queries`
                yield shlex.split(re.split(r" 2?>>? | \| ", line)[0], comments=True)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_are_there_with_their_options(page):
    for words in commands_of(page):
        command = COMMANDS.get(words[0])
        assert command is not None, f"{name_of(page)}: {words}"
        known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        asked = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
        assert asked <= known | {"--help"}, f"{name_of(page)}: {words}"


@pytest.mark.parametrize("page", WITHOUT_WAREHOUSE)
def test_python_prints_what_is_shown(page, capsys):
    text, told = (PROJECT / page).read_text(), dict[str, Any]()
    blocks = re.findall(r"```python\n(.*?)\n```(?:\n\n```\n(.*?)\n```)?", text, re.DOTALL)
    assert blocks
    for script, shown in blocks:
        exec(script, told)  # a page of this repository
        assert capsys.readouterr().out.strip() == shown
