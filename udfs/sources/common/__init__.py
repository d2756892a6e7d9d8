"""Code that all sources share: opening files, building records, naming symbols, and limits."""
