"""This process and machine: Java, memory, limits, signals, and what their errors mean."""
