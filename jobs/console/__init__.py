"""What people see: log lines, progress, ladders (drawn order books), formatted times and sizes, safe text."""
