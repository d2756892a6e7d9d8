"""The order of messages: staged records, ids, clocks, duplicates, id restarts and chunk boundaries."""
