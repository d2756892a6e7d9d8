"""Fingerprints: hashes that tables store, to detect whether the inputs of a result have changed.

A fingerprint hashes values under fixed names, so renaming a class or an attribute changes no fingerprint.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from deltabook.schemas.names import RowPolicy

FORM = 2
"""Version of the way in which values are hashed."""
_DIGITS = 16


def make_fingerprint(what: str, values: Mapping[str, object]) -> str:
    """Return the fingerprint of named values: the first 16 hex digits of a SHA-256.

    Parameters
    ----------
    what : str
        Kind of result that depends on the values, such as "books". The hash includes this text.
    values : mapping
        Values by name. Each value must be a JSON value: text, a number, a list or a mapping.
    """
    named = {"form": FORM, "of": what} | dict(values)
    text = json.dumps(named, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def values_of(writing: RowPolicy) -> dict[str, object]:
    """Return the settings of a row policy under names that never change.

    Parameters
    ----------
    writing : RowPolicy
        Settings that say which rows are written.
    """
    return {
        "depth": writing.depth,
        "cadence": str(writing.cadence),
        "grids": [*writing.grids],
        "on_gap": str(writing.on_gap),
        "silence_ns": writing.silence,
        "ofi_levels": writing.ofi_levels,
        "checkpoint_every": writing.checkpoint_every,
        "seed": str(writing.seed),
        "repair": str(writing.repair),
        "reseed_after_ns": writing.reseed_after,
    }
