"""Fingerprints that tables store: of named values in a versioned form, so that no rename in code alters one.

The first form hashed the text of Python objects, and with it the names of classes and attributes. Stored
fingerprints of the first form still count: `Fingerprint.fits` accepts both, so that nothing is built or
checked again because the form has changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deltabook.schemas.names import RowPolicy

FORM = 2
"""Version of how a fingerprint is made; a change of the form must keep the earlier ones readable."""
_DIGITS = 16


@dataclass(frozen=True)
class Fingerprint:
    """The SHA-256 of named values, 16 hex digits.

    Attributes
    ----------
    value : str
        What is stored.
    first : str
        What the first form would have stored: the SHA-256 of lines of text.
    """

    value: str
    first: str

    @classmethod
    def of(cls, what: str, values: Mapping[str, object], first: Iterable[str]) -> Fingerprint:
        """Make the fingerprint of some values.

        Parameters
        ----------
        what : str
            What is fingerprinted, such as "books"; part of what is hashed.
        values : mapping
            Values by their names. JSON must have a form for each: text, numbers, lists, mappings.
        first : iterable of str
            The lines of the first form.
        """
        named = {"form": FORM, "of": what} | dict(values)
        return cls(
            _digest(json.dumps(named, sort_keys=True, separators=(",", ":"))), _digest("\n".join(first))
        )

    def fits(self, stored: str | None) -> bool:
        """Return whether a stored fingerprint, of either form, is of these values.

        Parameters
        ----------
        stored : str, optional
            As a table has it; None: it has none.
        """
        return stored in (self.value, self.first)


def values_of(writing: RowPolicy) -> dict[str, object]:
    """Return the settings of written rows by names that never change.

    Parameters
    ----------
    writing : RowPolicy
        The settings.
    """
    return {
        "depth": writing.depth,
        "cadence": str(writing.cadence),
        "grids": [*writing.grids],
        "on_gap": str(writing.on_gap),
        "silence_ns": writing.silence,
        "ofi_levels": writing.ofi_levels,
        "checkpoint_every": writing.checkpoint_every,
    }


def first_text_of(writing: RowPolicy) -> str:
    """Return the settings of written rows as the first form had them.

    Parameters
    ----------
    writing : RowPolicy
        The settings.
    """
    on_gap = str(writing.on_gap)
    return (
        f"Writing(depth={writing.depth}, cadence={str(writing.cadence)!r}, grids={writing.grids!r}, "
        f"on_gap=<OnGap.{on_gap.upper()}: {on_gap!r}>, silence={writing.silence}, "
        f"ofi_levels={writing.ofi_levels}, checkpoint_every={writing.checkpoint_every})"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
