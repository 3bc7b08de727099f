"""Loggers beside TensorBoard: ours, those of installed packages, and those of the user's."""
