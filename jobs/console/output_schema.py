"""The JSON Schema of what commands print with `--json`, with one definition per command."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

OUTPUT_SCHEMA = "output.schema.json"
"""Name of the schema's file in the folder `conf`."""


@cache
def read_output_schema() -> dict[str, Any]:
    """Return the JSON Schema of the objects that commands print with `--json`.

    Returns
    -------
    dict
        The schema. Its `$defs` has one definition per command, by the command's name.
    """
    text = files("deltabook.conf").joinpath(OUTPUT_SCHEMA).read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def complete_output(command: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return a command's result, completed with every key that the command's schema names.

    Parameters
    ----------
    command : str
        Name of the command.
    result : dict
        The command's result, which may lack keys.

    Returns
    -------
    dict
        The complete result. A missing `exit_status` becomes 0; other missing keys become null. The result of
        a command without a schema is returned unchanged.
    """
    properties = read_output_schema()["$defs"].get(command, {}).get("properties", {})
    return {**dict.fromkeys(properties), "exit_status": 0, **result} if properties else result
