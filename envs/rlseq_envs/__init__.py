"""Sequence generation tasks as Gymnasium environments; importing this package registers them."""

from rlseq_envs.registration import register

__all__ = ["register"]
