"""What must hold: Great Expectations suites, kept as code."""
