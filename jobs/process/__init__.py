"""The process and its machine: Java, memory, limits and signals, and messages for their errors."""
