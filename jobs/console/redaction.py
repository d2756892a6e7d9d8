"""Replace keys and passwords in text that is printed or stored."""

from __future__ import annotations

import re

HIDDEN = "***"
_IN_ADDRESS = re.compile(r"(:/{1,2})[^/\s@'\"]+@")  # a URI that was turned into a Path has only one slash
_NAMED = re.compile(
    r"(?i)((?:secret|password|passwd|credential|access[._-]?key|session[._-]?token|auth[._-]?token)[\w.-]*"
    r"\\?[\"']?\s*[=:]\s*\\?[\"']?)[^\s\"',;&\\}]+"
)


def redact(text: str) -> str:
    """Replace keys and passwords in a text by `***`.

    Parameters
    ----------
    text : str
        Text to print or store, such as an error message or the JSON of a run.

    Returns
    -------
    str
        The text. `***` replaces the user and password of an address (all before the @), and the value of each
        setting whose name contains a word such as secret or password, as in `fs.s3a.secret.key=…`.
    """
    return _NAMED.sub(rf"\g<1>{HIDDEN}", _IN_ADDRESS.sub(rf"\g<1>{HIDDEN}@", text))
