"""Sequence generation tasks as Gymnasium environments; importing this package registers them."""

from rlseq_envs.registration import register

__all__ = ["register"]

register("rlseq/ConvexHull-v0", "rlseq_envs.convex_hull:ConvexHullTask")
register("rlseq/Translation-v0", "rlseq_envs.translation:TranslationTask")
