"""The rules that the tables of a warehouse must meet, as suites of Great Expectations."""
