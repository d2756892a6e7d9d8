"""Properties of this process and this machine: Java, memory, limits, signals, and the messages of errors."""
