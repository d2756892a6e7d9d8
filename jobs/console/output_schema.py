"""Read the JSON Schema of the objects that commands print with `--json`, and add missing keys to objects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TypedDict

OUTPUT_SCHEMA = "output.schema.json"
"""Name of the file that contains the schema, in the folder `conf`."""


class ObjectDefinition(TypedDict, total=False):
    """Schema of the object that one command prints. `properties` maps each key to the schema of its value."""

    properties: dict[str, object]


OutputSchema = TypedDict("OutputSchema", {"$defs": dict[str, ObjectDefinition]})
"""The JSON Schema. `$defs` maps the name of each command to the schema of the object that is printed."""


@cache
def read_output_schema() -> OutputSchema:
    """Return the JSON Schema of the objects that commands print with `--json`."""
    text = files("deltabook.conf").joinpath(OUTPUT_SCHEMA).read_text(encoding="utf-8")
    schema: OutputSchema = json.loads(text)
    return schema


def complete_output(command: str | None, result: Mapping[str, object]) -> Mapping[str, object]:
    """Return a command's result, with the missing keys of the command's schema added.

    Parameters
    ----------
    command : str or None
        Name of the command; None outside a command.
    result : dict
        The command's result, which may lack keys.

    Returns
    -------
    dict
        The complete result. A missing `exit_status` becomes 0, and any other missing key becomes None. If the
        schema does not define the command, `result` is returned unchanged.
    """
    definition = read_output_schema()["$defs"].get(command or "", {})
    properties = definition.get("properties", {})
    return {**dict.fromkeys(properties), "exit_status": 0, **result} if properties else result
