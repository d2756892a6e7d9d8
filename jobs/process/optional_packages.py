"""Packages that only some commands need, and the extras of deltabook that install these packages."""

from __future__ import annotations

EXTRAS = {
    **dict.fromkeys(
        ("arch", "delta", "great_expectations", "powerlaw", "py4j", "pyspark", "sqlglot"), "spark"
    ),
    **dict.fromkeys(("obstore", "upath"), "s3"),
    "gymnasium": "rl",
    "matplotlib": "plot",
    "psutil": "bench",
}
"""Maps the name under which a package is imported to the extra of deltabook that installs the package."""


def describe_missing_package(error: BaseException) -> str:
    """Return a message that names a missing package and how to install it.

    Parameters
    ----------
    error : BaseException
        Error that a command raised.

    Returns
    -------
    str
        The message; empty if the error is not about a missing package that an extra installs.
    """
    package = (getattr(error, "name", None) or "").split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package not in EXTRAS:
        return ""
    extra = EXTRAS[package]
    return f"this needs the package {package}, which is not installed: pip install 'deltabook[{extra}]'"
