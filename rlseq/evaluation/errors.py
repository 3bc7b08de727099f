"""What evaluation refuses."""

from __future__ import annotations

from rlseq.config.errors import UserError


class EvaluationError(UserError):
    """What was asked for cannot be evaluated; the message says why and what would help."""


class IncomparableError(EvaluationError):
    """Arms have different tasks or instances, so that their figures cannot be compared."""
