"""A feed that is still being recorded: growing files read as a stream, and its books carried on."""
