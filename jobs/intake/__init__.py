"""Parts of `ingest`: the ledger of raw files, instruments, staged files, and the assignment to chunks."""
