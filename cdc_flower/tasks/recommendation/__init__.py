"""Recommendation: devices rank the item that their user chooses next."""
