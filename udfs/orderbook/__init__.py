"""The order book: applies level changes, checks ids and checksums, records gaps, coverage and checkpoints."""
