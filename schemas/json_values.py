"""Type of values that JSON can represent."""

from __future__ import annotations

from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A JSON value: a bool, a number, a text, a list of JSON values, a dict of named JSON values, or None."""
