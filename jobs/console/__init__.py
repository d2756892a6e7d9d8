"""What people see: log lines, progress, ladders, text forms of times and sizes, safe text."""
