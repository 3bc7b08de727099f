"""Rewards: batched, exact kernels, each tested against the reference library it matches."""
