"""Fine-tuning of one model for each group of devices."""
