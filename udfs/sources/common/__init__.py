"""What all sources share: reading files, records, symbols, limits."""
