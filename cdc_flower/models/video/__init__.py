"""Implements device models for video."""
