"""Messages as stacked arrays, their records, and their bytes."""
