"""Evaluation: decode a split, score it, and compare checkpoints with tests of significance."""
