"""Removal of keys and passwords from text that is printed or stored."""

from __future__ import annotations

import re

HIDDEN = "***"
_IN_ADDRESS = re.compile(r"(:/{1,2})[^/\s@'\"]+@")  # a URI that was turned into a Path has only one slash
_NAMED = re.compile(
    r"(?i)((?:secret|password|passwd|credential|access[._-]?key|session[._-]?token|auth[._-]?token)[\w.-]*"
    r"\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\"',;&\\}]+"
)


def redact(text: str) -> str:
    """Return a text whose keys and passwords are replaced by `***`.

    Parameters
    ----------
    text : str
        Any text, such as an error message or the JSON of a run.

    Returns
    -------
    str
        The text with `***` instead of the part before the @ of an address, and instead of the values of names
        such as `fs.s3a.secret.key`.
    """
    return _NAMED.sub(rf"\g<1>{HIDDEN}", _IN_ADDRESS.sub(rf"\g<1>{HIDDEN}@", text))
