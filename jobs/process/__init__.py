"""The process and its machine: Java, memory, limits, signals, and the messages of errors."""
