"""The process and its machine: Java, memory, limits, signals, and the meaning of their errors."""
