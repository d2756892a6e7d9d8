"""The stages of a run: ingest, reconstruct, validate, alone or one after another."""
