"""Read and build level-2 order books from Python: `open` reads a warehouse, and `run` runs the pipeline.

`make_env` makes an environment for trading agents. Each public name is imported when the name is first used,
so ``import deltabook`` itself is fast.

>>> import deltabook
>>> books = deltabook.open("demo/warehouse").books("BTC-USDT", "2024-08-08T23:57Z")  # doctest: +SKIP
>>> books.to_pandas()[["time", "bid_price", "ask_price", "status"]]  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deltabook.jobs.runtime.settings import Settings as Settings
    from deltabook.schemas.errors import BusyError as BusyError
    from deltabook.schemas.errors import DeltabookError as DeltabookError
    from deltabook.schemas.errors import DeltabookWarning as DeltabookWarning
    from deltabook.schemas.errors import FailedChunksWarning as FailedChunksWarning
    from deltabook.schemas.errors import GapError as GapError
    from deltabook.schemas.errors import InputError as InputError
    from deltabook.schemas.errors import OrderError as OrderError
    from deltabook.schemas.errors import SettingsError as SettingsError
    from deltabook.schemas.errors import WarehouseError as WarehouseError
    from deltabook.schemas.errors import WorkError as WorkError
    from deltabook.schemas.names import Status as Status

    from .agent_environment import make_env as make_env
    from .failed_chunks import FailedChunk as FailedChunk
    from .pipeline_run import RunSummary as RunSummary
    from .pipeline_run import run as run
    from .result import Result as Result
    from .warehouse_reader import WarehouseReader as WarehouseReader
    from .warehouse_reader import open as open

    __version__: str

_ERRORS = (
    "BusyError",
    "DeltabookError",
    "DeltabookWarning",
    "FailedChunksWarning",
    "GapError",
    "InputError",
    "OrderError",
    "SettingsError",
    "WarehouseError",
    "WorkError",
)
_MODULES = {
    **dict.fromkeys(_ERRORS, "deltabook.schemas.errors"),
    "FailedChunk": ".failed_chunks",
    "Result": ".result",
    "RunSummary": ".pipeline_run",
    "Settings": "deltabook.jobs.runtime.settings",
    "Status": "deltabook.schemas.names",
    "WarehouseReader": ".warehouse_reader",
    "make_env": ".agent_environment",
    "open": ".warehouse_reader",
    "run": ".pipeline_run",
}
"""Maps each public name to the module that defines it. A leading dot means a module of this package."""

__all__ = [
    "BusyError",
    "DeltabookError",
    "DeltabookWarning",
    "FailedChunk",
    "FailedChunksWarning",
    "GapError",
    "InputError",
    "OrderError",
    "Result",
    "RunSummary",
    "Settings",
    "SettingsError",
    "Status",
    "WarehouseError",
    "WarehouseReader",
    "WorkError",
    "__version__",
    "make_env",
    "open",
    "run",
]


def __getattr__(name: str) -> object:
    """Return a public name's object; the first use of the name imports the object's module."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("deltabook")
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
