"""SQL queries: define views and functions, check that statements only read, and serve JDBC clients."""
