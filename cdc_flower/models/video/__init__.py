"""Device models for video."""
