"""From a policy to sequences: greedy, sampling, beam."""
