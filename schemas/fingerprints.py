"""Fingerprints that tables store, to detect whether the inputs of a result have changed.

A fingerprint is a hash of named values in a versioned form, so that renaming a class or a function does not
change any fingerprint. The first form hashed the text of Python objects, which contains names of classes and
attributes. `Fingerprint.fits` accepts stored fingerprints of both forms. So results with a fingerprint of the
first form need not be built or checked again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deltabook.schemas.names import RowPolicy

FORM = 2
"""Version of the form of fingerprints. After a change of the form, stored fingerprints must still match."""
_DIGITS = 16


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of named values: the first 16 hex digits of a SHA-256.

    Attributes
    ----------
    value : str
        The fingerprint in the current form. Tables store this value.
    first : str
        The fingerprint of the same values in the first form: a SHA-256 of lines of text.
    """

    value: str
    first: str

    @classmethod
    def of(cls, what: str, values: Mapping[str, object], first: Iterable[str]) -> Fingerprint:
        """Return the fingerprint of named values.

        Parameters
        ----------
        what : str
            Kind of result that depends on the values, such as "books". The hash includes this text.
        values : mapping
            Values by name. JSON must be able to represent each value: text, numbers, lists, mappings.
        first : iterable of str
            Lines of text that the first form hashes.
        """
        named = {"form": FORM, "of": what} | dict(values)
        return cls(
            _digest(json.dumps(named, sort_keys=True, separators=(",", ":"))), _digest("\n".join(first))
        )

    def fits(self, stored: str | None) -> bool:
        """Return whether a stored fingerprint, in either form, is the fingerprint of these values.

        Parameters
        ----------
        stored : str, optional
            The stored fingerprint; None if a table has no fingerprint.
        """
        return stored in (self.value, self.first)


def values_of(writing: RowPolicy) -> dict[str, object]:
    """Return the settings of a row policy by names that never change, for fingerprints.

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
    }


def first_text_of(writing: RowPolicy) -> str:
    """Return the settings of a row policy as the text that the first form of fingerprints hashes.

    Parameters
    ----------
    writing : RowPolicy
        Settings that say which rows are written.
    """
    on_gap = str(writing.on_gap)
    return (
        f"Writing(depth={writing.depth}, cadence={str(writing.cadence)!r}, grids={writing.grids!r}, "
        f"on_gap=<OnGap.{on_gap.upper()}: {on_gap!r}>, silence={writing.silence}, "
        f"ofi_levels={writing.ofi_levels}, checkpoint_every={writing.checkpoint_every})"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
