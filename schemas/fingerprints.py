"""Fingerprints: hashes that tables store, to detect whether the inputs of a result have changed.

A fingerprint hashes values under fixed names, so renaming a class or an attribute changes no fingerprint.
There are two versions, called forms. The first form hashed the text of Python objects, which contains names
of classes and attributes. `Fingerprint.fits` accepts stored fingerprints of both forms, so results that were
stored with the first form are not built or checked again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deltabook.schemas.names import RowPolicy

FORM = 2
"""Form in which fingerprints are stored now. `Fingerprint.fits` must accept all earlier forms too."""
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
            Values by name. Each value must be a JSON value: text, a number, a list or a mapping.
        first : iterable of str
            Lines of text for the first form, which hashes these lines instead of `values`.
        """
        named = {"form": FORM, "of": what} | dict(values)
        return cls(
            _digest(json.dumps(named, sort_keys=True, separators=(",", ":"))), _digest("\n".join(first))
        )

    def fits(self, stored: str | None) -> bool:
        """Return whether a stored fingerprint equals this one, in either form.

        Parameters
        ----------
        stored : str, optional
            The stored fingerprint; None if no fingerprint is stored.
        """
        return stored in (self.value, self.first)


def values_of(writing: RowPolicy) -> dict[str, object]:
    """Return the settings of a row policy under names that never change, for the current form.

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


def first_text_of(writing: RowPolicy) -> str:
    """Return the settings of a row policy as text, for the first form of fingerprints.

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
