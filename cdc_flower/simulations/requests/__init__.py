"""Request policies: each device decides when it reports, whatever the strategy does with it."""
