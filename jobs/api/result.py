"""`Result`: the rows of a query as an Arrow table, and those chunks of the query that failed a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from deltabook.schemas.errors import SettingsError

from .failed_chunks import FailedChunk

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


@dataclass(frozen=True, repr=False)
class Result:
    """Rows of a warehouse as an Arrow table.

    DuckDB, polars and pandas can read a result directly, through Arrow's C stream (`__arrow_c_stream__`).

    Attributes
    ----------
    table : pyarrow.Table
        The rows.
    failed_chunks : tuple of FailedChunk
        Chunks of the query that failed a check. If the query has ``include_failed=False``, the table lacks
        the rows of failed chunks, but this attribute still lists the chunks.

    Examples
    --------
    >>> result = Result(pa.table({"price": [1, 2]}))
    >>> len(result), result.column_names
    (2, ['price'])
    """

    table: pa.Table
    failed_chunks: tuple[FailedChunk, ...] = ()

    @property
    def column_names(self) -> list[str]:
        """Names of the columns, in order."""
        return list(self.table.column_names)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, column: str) -> pa.ChunkedArray:
        return self.table[column]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        failed = f"; failed chunks: {len(self.failed_chunks):,}" if self.failed_chunks else ""
        return f"<Result: {len(self):,} rows of {', '.join(self.column_names)}{failed}>"

    def to_arrow(self) -> pa.Table:
        """Return the rows as a pyarrow Table.

        Examples
        --------
        >>> Result(pa.table({"price": [1, 2]})).to_arrow().num_rows
        2
        """
        return self.table

    def to_pandas(self, **options: object) -> pd.DataFrame:
        """Return the rows as a pandas DataFrame; exact decimals become `decimal.Decimal`.

        Parameters
        ----------
        **options : object
            Options of `pyarrow.Table.to_pandas`, such as `types_mapper`.

        Returns
        -------
        pandas.DataFrame
            All rows of the table, in the same order.

        Examples
        --------
        >>> Result(pa.table({"price": [1, 2]})).to_pandas()["price"].sum().item()
        3
        """
        frame: pd.DataFrame = self.table.to_pandas(**options)
        return frame

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a polars DataFrame.

        Returns
        -------
        polars.DataFrame
            All rows of the table, in the same order.

        Raises
        ------
        SettingsError
            If polars is not installed.

        Examples
        --------
        >>> Result(pa.table({"price": [1, 2]})).to_polars()["price"].sum()  # doctest: +SKIP
        3
        """
        try:
            import polars as pl
        except ImportError:
            raise SettingsError("to_polars needs polars: pip install polars") from None
        frame = pl.from_arrow(self.table)
        assert isinstance(frame, pl.DataFrame)
        return frame

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return the rows as a list of dicts that map column names to values.

        Examples
        --------
        >>> Result(pa.table({"price": [1, 2]})).to_pylist()
        [{'price': 1}, {'price': 2}]
        """
        return list(self.table.to_pylist())
