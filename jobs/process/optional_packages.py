"""Packages that only some commands need, and the extra of `pip install` that brings each."""

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
"""Name of the extra by that of the package, as it is imported."""


def describe_missing_package(error: BaseException) -> str:
    """Return a message that names a missing package and how to install it.

    Parameters
    ----------
    error : BaseException
        Any error.

    Returns
    -------
    str
        One sentence; empty if the error is not a missing package of an extra.
    """
    package = (getattr(error, "name", None) or "").split(".")[0]
    if not isinstance(error, ModuleNotFoundError) or package not in EXTRAS:
        return ""
    extra = EXTRAS[package]
    return f"this needs the package {package}, which is not installed: pip install 'deltabook[{extra}]'"
