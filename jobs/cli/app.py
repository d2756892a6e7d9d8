"""The typer application of the command line, and the options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from deltabook.jobs.console.closed_output import is_output_closed, leave_quietly
from deltabook.jobs.console.logging import LogForm, log_fields, set_log_form
from deltabook.jobs.console.printable import make_printable
from deltabook.schemas.names import OnGap, Repair, Seed
from deltabook.udfs.storage.locations import explain_invalid_names

if TYPE_CHECKING:  # typer has no public names for these classes
    from typer._click.core import Context, Parameter

# Commands import Spark, Great Expectations and the kernels only when they need them, so that --help is fast.

_Function = TypeVar("_Function", bound=Callable[..., object])

_ORDER = (
    *("demo", "run", "live", "ingest", "reconstruct", "validate"),
    *("status", "book", "replay", "sql", "plot", "report", "raw", "export"),
    *("verify", "restore", "maintain", "sources", "plan", "bench"),
)
"""Order of the commands in the help: commands that write, read and maintain a warehouse; then other tools."""


class _Program(TyperGroup):
    """The program `deltabook`: the group of all commands.

    In usage errors, it replaces characters that a terminal cannot print, such as those of a file's name.
    """

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return sorted(super().list_commands(ctx), key=lambda name: (*_ORDER, name).index(name))

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Return all parameters, `--help` included; flags have no type in the help."""
        return [_hide_type(parameter) for parameter in super().get_params(ctx)]

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: object
    ) -> Context:
        """Parse the program's own options, such as `--version`, and return the context."""
        with _printable_usage_errors():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Context) -> object:
        """Parse the options of a command and run the command.

        If the reader of the output has closed the pipe, such as `head`, the program ends without a message.
        """
        try:
            with _printable_usage_errors():
                return super().invoke(ctx)
        except BrokenPipeError:
            if is_output_closed():
                leave_quietly()
            raise


class _Command(TyperCommand):
    """A command: its usage line has arguments in capitals, and its help shows flags without a type."""

    def get_params(self, ctx: Context) -> list[Parameter]:
        """Return all parameters, `--help` included; flags have no type in the help."""
        return [_hide_type(parameter) for parameter in super().get_params(ctx)]

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """Return the words of the usage line after the command's name."""
        pieces = [self.options_metavar or ""]
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                name = f"{parameter.name}".upper() if parameter.metavar is None else parameter.metavar
                name += "" if parameter.nargs == 1 else "…"
                pieces.append(name if parameter.required else f"[{name}]")
        return pieces

    def invoke(self, ctx: Context) -> object:
        """Run the command. Each of its log records has the field `command`."""
        with log_fields(command=ctx.info_name):
            return super().invoke(ctx)


def _hide_type(parameter: Parameter) -> Parameter:
    """Return the parameter; if it is a flag or an argument, remove its type from the help."""
    if getattr(parameter, "is_flag", False) and parameter.metavar is None:
        parameter.metavar = ""
    elif getattr(parameter, "param_type_name", "") == "argument":
        setattr(parameter, "display_type_rich", lambda ctx: "")  # noqa: B010  # not an attribute of all
    return parameter


@contextmanager
def _printable_usage_errors() -> Iterator[None]:
    """Make the messages of the block's usage errors printable."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "message"):
            error.message = make_printable(error.message)
        raise


app = typer.Typer(
    name="deltabook",
    cls=_Program,
    help="Level-2 crypto feeds in, every order book out, as Delta tables, with proof.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    rich_markup_mode="rich",
)


def with_default(text: str, default: str) -> str:
    """Return the help text of an option, with its default as people understand it, such as `all` for None.

    Parameters
    ----------
    text : str
        Description of the option.
    default : str
        What the command uses if the option is not given, such as the value of a setting.
    """
    return f"{text} [dim]\\[default: {escape(default)}][/]"


Paths = Annotated[
    list[Path], typer.Argument(metavar="PATHS", help="Files and folders to read.", show_default=False)
]
MorePaths = Annotated[
    list[Path] | None,
    typer.Argument(metavar="PATHS", help="Files and folders to read.", show_default=False),
]
Source = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE", help="Kind of feed; `deltabook sources` lists them.", show_default=False
    ),
]
AnySource = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Kind of feed; `deltabook sources` lists them. auto, or left out: recognized by content.",
        show_default=False,
    ),
]
WarehouseOption = Annotated[
    str | None,
    typer.Option(
        "--warehouse",
        metavar="FOLDER",
        help=with_default(
            "Folder of the tables, or s3a://bucket/folder (env DELTABOOK_WAREHOUSE).", "warehouse"
        ),
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help=with_default("YAML file of settings.", "none"))
]
MasterOption = Annotated[
    str | None, typer.Option("--master", metavar="URL", help=with_default("Spark master.", "local[*]"))
]
JarsOption = Annotated[
    Path | None,
    typer.Option(
        "--jars", metavar="FOLDER", help=with_default("Folder with Delta's JARs.", "the user's cache")
    ),
]
ExchangeOption = Annotated[
    str | None,
    typer.Option("--exchange", metavar="NAME", help="Exchange; needed if several exchanges list the symbol."),
]
SymbolArgument = Annotated[
    str, typer.Argument(metavar="SYMBOL", help="Symbol as in the tables, e.g. BTC-USDT.", show_default=False)
]


def check_out_path(path: Path | None) -> Path | None:
    """Check the path of an option such as `--out`, and return it unchanged.

    Parameters
    ----------
    path : Path or None
        The option's value.

    Returns
    -------
    Path or None
        The option's value, unchanged.

    Raises
    ------
    typer.BadParameter
        If the path has characters that are not valid text.
    """
    if path is not None and (problem := explain_invalid_names([path])):
        raise typer.BadParameter(problem)
    return path


def _apply_log_form(context: typer.Context, form: LogForm | None) -> LogForm | None:
    """Write messages in the format of `--log` until the command ends.

    typer parses this option before all others, so usage errors have this format too.
    """
    context.call_on_close(lambda: set_log_form(LogForm.TEXT))
    context.with_resource(log_fields(command=context.info_name))
    if form is not None:
        set_log_form(form)
    return form


LogOption = Annotated[
    LogForm | None,
    typer.Option(
        "--log",
        help=with_default("Format of messages; json: one object per line (env DELTABOOK_LOG).", "text"),
        envvar="DELTABOOK_LOG",
        show_envvar=False,
        is_eager=True,
        callback=_apply_log_form,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")
]
DepthOption = Annotated[
    str | None,
    typer.Option(
        "--depth",
        metavar="LEVELS",
        help=with_default("Levels per side in each row of books, or full (all levels).", "20"),
    ),
]
SeedOption = Annotated[
    Seed | None,
    typer.Option(
        "--seed",
        help=with_default(
            "How the book of a feed without snapshots starts. auto: from its messages, then from the "
            "vendor's books; golden: from the vendor's first valid book; none: from its messages alone.",
            "auto",
        ),
    ),
]
RepairOption = Annotated[
    Repair | None,
    typer.Option(
        "--repair",
        help=with_default(
            "A feed without snapshots. older: remove the older of two levels that cross, and record it in "
            "gaps; none: keep both.",
            "older",
        ),
    ),
]
ReseedOption = Annotated[
    float | None,
    typer.Option(
        "--reseed-after",
        metavar="SECONDS",
        help=with_default(
            "A feed without snapshots: seconds after which a vendor's book replaces a crossed book.", "2"
        ),
    ),
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Replace a known file whose content changed.")]
ArchiveOption = Annotated[bool, typer.Option("--archive", help="Store a copy of each file in the warehouse.")]
ValidateOption = Annotated[
    bool, typer.Option("--validate/--no-validate", help="Check the results of each stage with its suites.")
]
CadenceOption = Annotated[
    str | None,
    typer.Option(
        "--cadence",
        metavar="ROWS",
        help=with_default(
            "When rows of books are written: change, message or a step such as 1s. More steps fill the table "
            "grids: change,1s,1m.",
            "change",
        ),
    ),
]
CheckpointOption = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-every",
        metavar="COUNT",
        help=with_default("Level changes between stored states within a chunk.", "500000"),
    ),
]
ChunkOption = Annotated[
    str | None,
    typer.Option(
        "--chunk",
        metavar="LENGTH",
        help=with_default("Length of a chunk, 1s to 1d; the first ingest fixes it.", "1h"),
    ),
]
OnGapOption = Annotated[
    OnGap | None,
    typer.Option(
        "--on-gap",
        help=with_default(
            "After a gap. flag: write rows as suspect; wait: write none until a snapshot; raise: stop.",
            "flag",
        ),
    ),
]


def command(*examples: str) -> Callable[[_Function], _Function]:
    """Return the decorator that registers a function as a command of the application.

    Parameters
    ----------
    *examples : str
        Calls of the command, as a user types them. The help shows them, and a test parses each of them.
    """
    lines = ["[bold]Examples[/]", *(f"  $ {escape(example)}" for example in examples)]
    return app.command(cls=_Command, epilog="\n".join(lines))


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"deltabook {version('deltabook')}")
        raise typer.Exit


@app.callback()
def _main(
    _is_version_wanted: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Level-2 crypto feeds in, every order book out, as Delta tables, with proof."""
