"""Output for people: log lines, progress, ladders (drawn order books), formatted numbers, safe text."""
