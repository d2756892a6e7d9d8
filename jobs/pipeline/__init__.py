"""The jobs `ingest`, `reconstruct` and `validate`, and the steps with which commands run these jobs."""
