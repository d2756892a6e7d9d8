"""Registry that maps the name of each source, as users type it, to its class."""

from __future__ import annotations

from deltabook.udfs.sources.binance.source import BinanceSource
from deltabook.udfs.sources.bybit import BybitSource
from deltabook.udfs.sources.common.file_source import FileSource
from deltabook.udfs.sources.crypto_lake.source import CryptoLakeSource
from deltabook.udfs.sources.kraken import KrakenSource
from deltabook.udfs.sources.okx import OkxSource
from deltabook.udfs.sources.tardis.source import TardisSource

_ALL: tuple[type[FileSource], ...] = (
    CryptoLakeSource,
    TardisSource,
    BinanceSource,
    OkxSource,
    BybitSource,
    KrakenSource,
)
SOURCES: dict[str, type[FileSource]] = {source.name(): source for source in _ALL}
"""{name: class of the source}, in the order in which `deltabook sources` lists the sources."""
