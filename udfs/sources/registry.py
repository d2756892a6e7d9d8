"""Registry that maps the name of each source, as users type it, to its class."""

from __future__ import annotations

from deltabook.udfs.sources.binance.source import BinanceSource
from deltabook.udfs.sources.bitget import BitgetSource
from deltabook.udfs.sources.bitmex import BitmexSource
from deltabook.udfs.sources.bitstamp import BitstampSource
from deltabook.udfs.sources.bybit import BybitSource
from deltabook.udfs.sources.coinbase import CoinbaseSource
from deltabook.udfs.sources.common.file_source import FileSource
from deltabook.udfs.sources.crypto_lake.source import CryptoLakeSource
from deltabook.udfs.sources.deribit import DeribitSource
from deltabook.udfs.sources.gate import GateSource
from deltabook.udfs.sources.kraken import KrakenSource
from deltabook.udfs.sources.kraken_futures import KrakenFuturesSource
from deltabook.udfs.sources.okx import OkxSource
from deltabook.udfs.sources.tardis.source import TardisSource

_ALL: tuple[type[FileSource], ...] = (
    CryptoLakeSource,
    TardisSource,
    BinanceSource,
    OkxSource,
    BybitSource,
    KrakenSource,
    BitgetSource,
    BitstampSource,
    CoinbaseSource,
    DeribitSource,
    GateSource,
    KrakenFuturesSource,
    BitmexSource,
)
SOURCES: dict[str, type[FileSource]] = {source.name(): source for source in _ALL}
"""{name: class of the source}, in the order in which `deltabook sources` lists the sources."""
