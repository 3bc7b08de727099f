"""Pictures: made ones, and those that are read."""
