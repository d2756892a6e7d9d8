"""The stages of a run: ingest, reconstruct and validate. Commands run one stage or several in order."""
