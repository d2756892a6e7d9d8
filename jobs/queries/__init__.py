"""SQL queries: views and functions, the check that statements only read, and the JDBC server."""
