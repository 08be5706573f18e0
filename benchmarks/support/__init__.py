"""Holds code that benchmarks share; the scripts are one folder up."""
