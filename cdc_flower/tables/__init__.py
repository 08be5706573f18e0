"""Results: one long table, its cells in memory, and summaries."""
