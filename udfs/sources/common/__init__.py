"""Code that all sources share: opens files, builds records, converts symbols, and checks limits."""
