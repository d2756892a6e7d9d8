"""A feed that is still being recorded: growing files read as a stream, and books carried on by it."""
