"""The command line. All commands share options, exit statuses and forms of messages."""
