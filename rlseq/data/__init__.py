"""Batches of instances: which ids an update sees, and how a task is built from its configuration."""
