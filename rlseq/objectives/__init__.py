"""Losses (pure functions) and baselines."""
