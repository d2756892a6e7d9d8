"""Make text from files safe to show: replace control and format characters by escape sequences."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from typing import IO, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from deltabook.jobs.console.closed_output import handle_broken_pipe

_HARMLESS = "\n\t\u200c\u200d"
"""Characters that are shown unchanged: newlines, tabs, and the joiners that some scripts and emoji need."""
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of unsafe characters: control and format characters, surrogates, line separators."""


class _Escapes(dict[int, str]):
    """Maps the code of each character to the text to show; a missing entry is made at the first lookup."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        is_unsafe = letter not in _HARMLESS and unicodedata.category(letter) in _UNSAFE
        self[code] = letter.encode("unicode_escape").decode() if is_unsafe else letter
        return self[code]


_ESCAPES = _Escapes()


def make_printable(text: str) -> str:
    r"""Return a text with an escape sequence for each character that could control a terminal.

    Parameters
    ----------
    text : str
        Text to show, such as a line of a raw file, a path or an error.

    Returns
    -------
    str
        The text. Escape sequences such as `\x1b`, `\u202e` or `\udcff` stand for control characters (except
        newlines and tabs), for format characters such as bidirectional overrides, and for bytes that are not
        valid UTF-8.
    """
    return text if text.isprintable() else text.translate(_ESCAPES)


class SafeConsole(Console):
    """A `rich` console that makes all text printable, and writes control sequences only for its styles."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object as `rich` does, and make the text of every segment printable.

        Parameters
        ----------
        renderable : RenderableType
            The object to show.
        options : ConsoleOptions, optional
            Width and encoding; default: the console's own.
        """
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(make_printable(segment.text), segment.style)

    def on_broken_pipe(self) -> None:
        """Handle a write to a closed pipe; see `handle_broken_pipe`."""
        handle_broken_pipe(self)


class _SafeStream:
    """A terminal whose text passes through `make_printable`."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text. CRLF, the line end that `csv` writes, becomes a newline."""
        self._stream.write(make_printable(text.replace("\r\n", "\n")))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def wrap_stream(stream: IO[str] | None = None) -> IO[str]:
    """Return a stream that makes text printable on a terminal, and leaves it unchanged in a file or a pipe.

    Parameters
    ----------
    stream : text file, optional
        The stream to write to; default: standard output.

    Returns
    -------
    text file
        The stream itself, or a wrapper around a terminal.
    """
    stream = stream or sys.stdout
    return _SafeStream(stream) if stream.isatty() else stream  # type: ignore[return-value]


def write_line(line: bytes, stream: IO[str] | None = None) -> None:
    """Write one line of a raw file: as printable text to a terminal, unchanged to a file or a pipe.

    Parameters
    ----------
    line : bytes
        The line, without its line end.
    stream : text file, optional
        The stream to write to; default: standard output.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        stream.write(make_printable(line.decode(errors="backslashreplace")) + "\n")
    else:
        stream.flush()
        cast(TextIO, stream).buffer.write(line + b"\n")
