"""APG: low-rank cores of adaptive layers."""
