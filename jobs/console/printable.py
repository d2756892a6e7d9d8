"""Text from files, made safe to show: control characters and bidirectional overrides are shown as escapes."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable
from typing import IO, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_KEPT = "\n\t\u200c\u200d"
"""Line ends and tabs; the joiners without which some scripts and emoji are misspelled."""
_UNSAFE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that act on a terminal, reorder what it shows, or are no characters at all."""


class _Escapes(dict[int, str]):
    """What each character is shown as, filled as characters are met."""

    def __missing__(self, code: int) -> str:
        letter = chr(code)
        is_unsafe = letter not in _KEPT and unicodedata.category(letter) in _UNSAFE
        self[code] = letter.encode("unicode_escape").decode() if is_unsafe else letter
        return self[code]


_ESCAPES = _Escapes()


def printable(text: str) -> str:
    r"""Return a text in which no character acts on a terminal.

    Parameters
    ----------
    text : str
        Any text, such as a line of a raw file, a path or an error.

    Returns
    -------
    str
        The same, with control characters (but line ends and tabs), format characters such as bidirectional
        overrides, and bytes that are not UTF-8 shown as `\x1b`, `\u202e` or `\udcff`.
    """
    return text if text.isprintable() else text.translate(_ESCAPES)


class SafeConsole(Console):
    """A console whose own styles and cursor movements are the only control sequences that it writes."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as `rich` does, with the text of every segment made printable.

        Parameters
        ----------
        renderable : RenderableType
            What is shown.
        options : ConsoleOptions, optional
            How; default: the console's own.
        """
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


class _SafeStream:
    """A terminal to which text is written through `printable`."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; a line end of `csv`, which has a carriage return, becomes a plain one."""
        self._stream.write(printable(text.replace("\r\n", "\n")))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def safe_stream(stream: IO[str] | None = None) -> IO[str]:
    """Return a stream for data: a terminal gets it made printable, a file or a pipe as it is.

    Parameters
    ----------
    stream : text file, optional
        Where to; default: standard output.
    """
    stream = stream or sys.stdout
    return _SafeStream(stream) if stream.isatty() else stream  # type: ignore[return-value]


def write_line(line: bytes, stream: IO[str] | None = None) -> None:
    """Write one line of a raw file: printable to a terminal, byte by byte as it is to a file or a pipe.

    Parameters
    ----------
    line : bytes
        Without its line end.
    stream : text file, optional
        Where to; default: standard output.
    """
    stream = stream or sys.stdout
    if stream.isatty():
        stream.write(printable(line.decode(errors="backslashreplace")) + "\n")
    else:
        stream.flush()
        cast(TextIO, stream).buffer.write(line + b"\n")
