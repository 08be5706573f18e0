"""Tasks: data of devices in time, reports, and metrics."""
