"""Great Expectations suites as code: the rules that a warehouse must meet."""
