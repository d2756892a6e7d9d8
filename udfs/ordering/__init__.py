"""The order of messages: ids, clocks, duplicates, id resets and the boundaries of chunks."""
