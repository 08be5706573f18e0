"""Links in virtual time."""
