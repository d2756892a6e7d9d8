"""`make_env`: make a Gymnasium environment from replayed books."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from deltabook.jobs.process.optional_packages import describe_missing_package
from deltabook.schemas.errors import SettingsError

from .time_range import TimeLike, to_range

if TYPE_CHECKING:
    import gymnasium
    import numpy as np
    from numpy.typing import NDArray

ENVIRONMENT = "deltabook.jobs.replay.gym_environment:deltabook/Book-v0"
"""Module and name by which `gymnasium.make` finds the environment."""


def make_env(
    warehouse: Path | str,
    symbol: str,
    start: TimeLike | None = None,
    end: TimeLike | None = None,
    **arguments: Any,
) -> gymnasium.Env[NDArray[np.float32], np.int64]:
    """Return a Gymnasium environment whose agent trades one symbol in replayed books.

    Parameters
    ----------
    warehouse : Path or str
        Folder of the tables, or s3a://bucket/folder.
    symbol : str
        Symbol as in the tables, such as BTC-USDT.
    start, end : int, str, datetime or None
        Start (inclusive) and end (exclusive) of the replay; None: no limit. The times are receive times, or
        exchange times if the argument `clock` is `"exchange"`.
    **arguments : Any
        Other arguments of `deltabook.jobs.replay.gym_environment.BookEnvironment`, such as `fee`, `step`,
        `length`, `latency` and `known_only`.

    Returns
    -------
    gymnasium.Env
        A new environment. An action is the position that the agent wants to hold, and the reward is the
        change of the agent's wealth.

    Raises
    ------
    SettingsError
        If gymnasium is not installed, or an argument is not valid.
    WarehouseError
        If the warehouse does not exist, or has no published tables.

    Examples
    --------
    >>> env = make_env("demo/warehouse", "BTC-USDT", fee=0.0001)  # doctest: +SKIP
    >>> observation, info = env.reset(seed=1)  # doctest: +SKIP
    >>> observation, reward, terminated, truncated, info = env.step(2)  # doctest: +SKIP
    """
    try:
        import gymnasium
    except ModuleNotFoundError as error:
        if message := describe_missing_package(error):
            raise SettingsError(message) from None
        raise
    first, last = to_range(start, end)
    return gymnasium.make(ENVIRONMENT, warehouse=warehouse, symbol=symbol, start=first, end=last, **arguments)
