"""Code that all sources share: reading of files, records, symbols and limits."""
