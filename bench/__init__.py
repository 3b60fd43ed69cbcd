"""Side-by-side measurements: one module for each question, `contenders` is the one place that runs anything."""
