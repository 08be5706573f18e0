"""The static model: the baseline that nothing adapts."""
