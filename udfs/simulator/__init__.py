"""A seeded limit-order market, and writers of its feed in the dialects of several venues and vendors."""
