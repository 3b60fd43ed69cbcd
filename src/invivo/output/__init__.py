"""One sink for each output."""
