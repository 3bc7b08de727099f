"""Monitors of the rl phase: alarms about what its updates and validations show."""
