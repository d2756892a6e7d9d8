"""A seeded limit-order market, and writers that print its feed in the dialects of venues and vendors."""
