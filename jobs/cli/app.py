"""The command line's frame: the program, its options and their help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from deltabook.jobs.console.logging import LogForm, belonging, log_as
from deltabook.jobs.console.printable import printable
from deltabook.schemas.names import OnGap, Seed
from deltabook.udfs.storage.object_store import name_problem

# Spark, Great Expectations and the kernels are imported by the commands that need them: --help must not wait.


class _Program(TyperGroup):
    """The program; what its usage errors cite, such as the name of a file, is made printable."""

    def make_context(self, *given: Any, **named: Any) -> Any:
        """Parse the options of the program."""
        with _printable_usage():
            return super().make_context(*given, **named)

    def invoke(self, ctx: Any) -> Any:
        """Parse the options of a command, and run it."""
        with _printable_usage():
            return super().invoke(ctx)


@contextmanager
def _printable_usage() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "message"):
            error.message = printable(error.message)
        raise


app = typer.Typer(
    name="deltabook",
    cls=_Program,
    help="Level-2 crypto feeds in, every order book out, as Delta tables, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)

Paths = Annotated[list[Path], typer.Argument(help="Files and folders to read.", show_default=False)]
Source = Annotated[str, typer.Argument(help="Kind of feed: see deltabook sources.", show_default=False)]
WarehouseOption = Annotated[
    str | None,
    typer.Option(
        "--warehouse", metavar="PLACE", help="Folder of the tables, or s3a://… (env DELTABOOK_WAREHOUSE)."
    ),
]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
MasterOption = Annotated[str | None, typer.Option("--master", help="Spark master, e.g. local[2].")]
JarsOption = Annotated[Path | None, typer.Option("--jars", help="Folder with Delta's JARs.")]
ExchangeOption = Annotated[str | None, typer.Option("--exchange", help="If several list the symbol.")]
SymbolArgument = Annotated[
    str, typer.Argument(metavar="SYMBOL", help="Symbol as in the tables, e.g. BTC-USDT.", show_default=False)
]


def out_path(path: Path | None) -> Path | None:
    """Return the path of an option such as `--out`.

    Parameters
    ----------
    path : Path or None
        As it was given.

    Raises
    ------
    typer.BadParameter
        If its name is not text.
    """
    if path is not None and (told := name_problem([path])):
        raise typer.BadParameter(told)
    return path


def _told_as(context: typer.Context, form: LogForm | None) -> LogForm | None:
    """Let all be told as is asked, the first errors too, until the command ends."""
    context.call_on_close(lambda: log_as(LogForm.TEXT))
    context.with_resource(belonging(command=context.info_name))
    if form is not None:
        log_as(form)
    return form


LogOption = Annotated[
    LogForm | None,
    typer.Option(
        "--log",
        help="Standard error: text, or json: one object a line.",
        envvar="DELTABOOK_LOG",
        show_envvar=False,
        is_eager=True,
        callback=_told_as,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Last line of stdout is one JSON object.")]
DepthOption = Annotated[
    str | None, typer.Option("--depth", help="Levels a side in each row of books, or full.")
]
SeedOption = Annotated[
    Seed | None, typer.Option("--seed", help="golden: feeds without snapshots start from the vendor's book.")
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace", help="A known file with new content takes the old one's place.")
]
ArchiveOption = Annotated[bool, typer.Option("--archive", help="Keep a copy of each file in the warehouse.")]
ValidateOption = Annotated[
    bool, typer.Option("--validate/--no-validate", help="Whether each stage's suites judge what it made.")
]
CadenceOption = Annotated[
    str | None,
    typer.Option("--cadence", help="Rows of books: change, message or a step; more steps: change,1s,1m."),
]
CheckpointOption = Annotated[
    int | None, typer.Option("--checkpoint-every", help="Level changes between states kept within an hour.")
]
ChunkOption = Annotated[
    str | None, typer.Option("--chunk", help="Length of the chunks that are rebuilt one by one: 10s to 1d.")
]
OnGapOption = Annotated[
    OnGap | None,
    typer.Option("--on-gap", help="Rows of a suspect book: flag, wait (none), raise (stop)."),
]


def examples(*lines: str) -> str:
    """Return the paragraph of a command's help that shows how it is called.

    Parameters
    ----------
    *lines : str
        Commands, as they are typed: a test reads each as the command line does.
    """
    return "\n".join(["[bold]Examples[/]", *(f"  $ {escape(line)}" for line in lines)])


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"deltabook {version('deltabook')}")
        raise typer.Exit


@app.callback()
def _main(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Level-2 crypto feeds in, every order book out, as Delta tables, with proof."""
