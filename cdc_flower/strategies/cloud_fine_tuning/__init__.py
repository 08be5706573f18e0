"""Fine-tuning in the cloud, on uploaded labels."""
