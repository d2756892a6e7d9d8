"""Options of an export: kind of rows, file format, output folder, instruments and range of times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deltabook.schemas.errors import SettingsError
from deltabook.schemas.exports import FORMS, OF_LEVELS, Form, What
from deltabook.schemas.names import INT64_MAX

DEFAULT_LEVELS = 20
"""Default number of levels on each side, in formats with columns for each level."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes
    ----------
    what : What
        The rows to export.
    form : Form
        The format of the files.
    out : Path
        The folder to which the export writes.
    symbols : sequence of str
        Symbols to export; empty means all.
    exchange : str, optional
        The only exchange to export; None means all.
    since, until : int
        Export rows with `since <= order_time < until`, ns since 1970 UTC.
    levels : int, optional
        Number of levels on each side, in formats with columns for each level; None means `DEFAULT_LEVELS`.
    all_hours : bool
        Whether to export chunks that failed validation too.
    replace : bool
        Whether to replace an earlier export in the folder.
    known_only : bool
        Whether books and features are cut to the known levels.
    """

    what: What
    form: Form
    out: Path
    symbols: Sequence[str] = ()
    exchange: str | None = None
    since: int = 0
    until: int = INT64_MAX
    levels: int | None = None
    all_hours: bool = False
    replace: bool = False
    known_only: bool = False

    @property
    def has_time_limits(self) -> bool:
        """Whether the export is limited to a range of times."""
        return (self.since, self.until) != (0, INT64_MAX)

    @property
    def level_count(self) -> int:
        """Number of levels on each side, in formats with columns for each level."""
        return self.levels or DEFAULT_LEVELS


def make_export_options(
    what: str,
    form: str,
    out: Path,
    symbols: Sequence[str] = (),
    exchange: str | None = None,
    since: int = 0,
    until: int = INT64_MAX,
    levels: int | None = None,
    all_hours: bool = False,
    replace: bool = False,
    known_only: bool = False,
) -> ExportOptions:
    """Check the options of a user, and return them as `ExportOptions`.

    Parameters
    ----------
    what : str
        The rows to export: `books`, `features`, `events` or `trades`.
    form : str
        The format of the files: `parquet`, `crypto_lake`, `tardis` or `hftbacktest`.
    out : Path
        The folder to which the export writes.
    symbols : sequence of str
        Symbols to export; empty means all.
    exchange : str, optional
        The only exchange to export; None means all.
    since, until : int
        Export rows with `since <= order_time < until`, ns since 1970 UTC.
    levels : int, optional
        Number of levels on each side, in formats with columns for each level; None means `DEFAULT_LEVELS`.
    all_hours : bool
        Whether to export chunks that failed validation too.
    replace : bool
        Whether to replace an earlier export in the folder.
    known_only : bool
        Whether books and features are cut to the known levels.

    Returns
    -------
    ExportOptions
        The options, with `what` and `form` as members of their enumerations.

    Raises
    ------
    SettingsError
        If rows of the kind `what` cannot be exported in the format `form` (the message lists the supported
        pairs), or if options contradict each other.
    """
    if what not in tuple(What) or form not in FORMS[What(what)]:
        supported = "; ".join(f"{rows}: {', '.join(forms)}" for rows, forms in FORMS.items())
        raise SettingsError(
            f"{what} as {form}: not supported. Choose rows and their format from: {supported}"
        )
    if levels is not None and form not in OF_LEVELS:
        raise SettingsError(
            f"--levels: only {' and '.join(OF_LEVELS)} have columns for each level. {form} always has all "
            "stored levels: leave out --levels"
        )
    if since >= until:
        raise SettingsError("--from is not before --to: pass an earlier --from or a later --to")
    if known_only and what not in (What.BOOKS, What.FEATURES):
        raise SettingsError(f"--known: {what} have no levels of books: leave out --known")
    return ExportOptions(
        What(what), Form(form), out, symbols, exchange, since, until, levels, all_hours, replace, known_only
    )
