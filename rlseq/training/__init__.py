"""The two phases of a run: rollouts, updates, schedules, checkpoints, the run directory."""
