"""What people see: log lines, progress, formats of times and sizes, safe text."""
