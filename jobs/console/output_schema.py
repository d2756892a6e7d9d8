"""The published form of what `--json` prints: a JSON Schema with one definition per command."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

OUTPUT_SCHEMA = "output.schema.json"
"""File in `conf`."""


@cache
def read_output_schema() -> dict[str, Any]:
    """Read the JSON Schema of the objects that commands print with `--json`.

    Returns
    -------
    dict
        `$defs` has one definition per command, by the command's name.
    """
    text = files("deltabook.conf").joinpath(OUTPUT_SCHEMA).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def complete_output(command: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return a command's result with every key that its schema names.

    Parameters
    ----------
    command : str
        Name of the command.
    result : dict
        Values that the command has.

    Returns
    -------
    dict
        `exit_status` is 0 and other missing keys are null. A command without a schema gets its result back.
    """
    properties = read_output_schema()["$defs"].get(command, {}).get("properties", {})
    return {**dict.fromkeys(properties), "exit_status": 0, **result} if properties else result
