"""What the data is: tables, names, sentinels, feed rules and errors. Imports nothing of the other folders."""
