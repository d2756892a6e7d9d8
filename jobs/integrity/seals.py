"""The seal of a row of `runs`: a hash of its other columns, by which a damaged row is told."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from deltabook.schemas.tables import RUNS


def seal_of(run: dict[str, Any]) -> str:
    """Return the SHA-256 of a row of `runs`, in hex.

    Parameters
    ----------
    run : dict
        The row; its column `seal` is left out.
    """
    told = {name: run[name] for name in RUNS.names if name != "seal"}
    told["versions"] = sorted(dict(told["versions"]).items())
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def is_sealed(run: dict[str, Any]) -> bool:
    """Return whether a row of `runs` is as its run has sealed it.

    Parameters
    ----------
    run : dict
        The row, as read: in a damaged file any column may hold anything.
    """
    try:
        return seal_of(run) == run["seal"] and isinstance(json.loads(run["proofs"]), dict)
    except (TypeError, ValueError, AttributeError):
        return False
