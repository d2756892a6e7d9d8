"""The templates of HTML pages in the folder `conf`. Pages need no network, and escape all text from data."""

from __future__ import annotations

import base64
import hashlib

from jinja2 import Environment, PackageLoader, StrictUndefined


def open_templates() -> Environment:
    """Return the Jinja environment of the templates.

    Its filter `sha256` returns the hash of a script for the page's content security policy.
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
    """Return the hash of a script, in the form that a content security policy needs to allow the script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
