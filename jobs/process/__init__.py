"""The process and its machine: Java, memory, limits, signals, and what their errors mean."""
