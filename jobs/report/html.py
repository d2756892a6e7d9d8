"""HTML pages that need no network: templates of `conf`, everything in them escaped."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined


def pages() -> Environment:
    """Return what fills templates in; its filter `sha256` names a script for a page's policy."""
    found = Environment(
        loader=PackageLoader("deltabook.conf", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    found.filters["sha256"] = _policy_hash
    return found


def _policy_hash(script: str) -> str:
    """Name a script for the page's content security policy: no other is run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
