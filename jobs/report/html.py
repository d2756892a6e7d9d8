"""Templates of `conf` for HTML pages that need no network; all text in them is escaped."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined


def open_templates() -> Environment:
    """Return the Jinja environment of the templates; its filter `sha256` hashes a script for the policy."""
    environment = Environment(
        loader=PackageLoader("deltabook.conf", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["sha256"] = _hash_script
    return environment


def _hash_script(script: str) -> str:
    """Return the hash by which a page's content security policy allows a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
