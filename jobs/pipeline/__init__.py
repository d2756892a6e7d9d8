"""The jobs that a run consists of: ingest, reconstruct and validate. Commands run one or several in order."""
