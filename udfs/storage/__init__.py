"""Reads and writes files in folders and object stores, and explains the errors of Spark workers."""
