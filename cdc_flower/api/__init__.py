"""The door for Python: comparisons, their results, and registration, without the command line."""
