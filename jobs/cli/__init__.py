"""The command line: every command with the same options, exit statuses and messages."""
