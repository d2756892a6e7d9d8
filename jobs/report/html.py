"""Open the templates of HTML pages in the folder `conf`. Text from data is escaped in the pages."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined


def open_templates() -> Environment:
    """Return a Jinja environment that loads and renders the templates.

    The templates can use the filter `sha256`, which hashes a script for the content security policy of a
    page.
    """
    environment = Environment(
        loader=PackageLoader("deltabook.conf", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["sha256"] = _hash_script
    return environment


def _hash_script(script: str) -> str:
    """Return the SHA-256 of a script in the form that a content security policy expects."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
