"""A seeded limit-order market and a writer of its feed as Binance capture files."""
