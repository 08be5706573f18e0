"""Request policies: each device decides when it reports, whatever becomes of the reports."""
