"""Raw files on their way in: the ledger, instruments, and the chunk that each message belongs to."""
