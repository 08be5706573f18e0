"""The page of one or more runs."""
