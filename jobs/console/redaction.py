"""Keys and passwords in text that is printed or kept: they are cut out."""

from __future__ import annotations

import re

HIDDEN = "***"
_IN_ADDRESS = re.compile(r"(:/{1,2})[^/\s@'\"]+@")  # a path has lost one of the slashes
_NAMED = re.compile(
    r"(?i)((?:secret|password|passwd|credential|access[._-]?key|session[._-]?token|auth[._-]?token)[\w.-]*"
    r"\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\"',;&\\}]+"
)


def redacted(text: str) -> str:
    """Cut out what stands before the @ of an address, and the values of names such as `fs.s3a.secret.key`.

    Parameters
    ----------
    text : str
        An error, or the JSON of a run.
    """
    return _NAMED.sub(rf"\g<1>{HIDDEN}", _IN_ADDRESS.sub(rf"\g<1>{HIDDEN}@", text))
