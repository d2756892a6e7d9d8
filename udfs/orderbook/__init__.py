"""The order book: level changes applied, ids checked, checksums, gaps, coverage and checkpoints."""
