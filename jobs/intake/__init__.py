"""Steps of the job `ingest`: compare files with the ledger, parse them, and assign messages to chunks."""
