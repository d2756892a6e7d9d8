"""Live books of a feed that is still being recorded: growing files are read in micro-batches."""
