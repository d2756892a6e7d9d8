"""SQL queries: views and functions, the check of statements, and the JDBC server."""
