"""What can be set about each task: every key, default, meaning and rule, written once.

A task is constructed with its settings, and the configuration has them as its section ``task``. Nothing here imports
more than the standard library.
"""

from __future__ import annotations

from rlseq_envs.settings.caption import CaptionSettings
from rlseq_envs.settings.convex_hull import ConvexHullSettings
from rlseq_envs.settings.custom import CustomTaskSettings
from rlseq_envs.settings.pixels import PixelsSettings
from rlseq_envs.settings.rules import IMPORT_PATH
from rlseq_envs.settings.speech import SpeechSettings
from rlseq_envs.settings.story import StorySettings
from rlseq_envs.settings.tape import TapeSettings
from rlseq_envs.settings.translation import TranslationSettings

TaskSettings = (
    ConvexHullSettings
    | TranslationSettings
    | TapeSettings
    | StorySettings
    | CaptionSettings
    | SpeechSettings
    | PixelsSettings
    | CustomTaskSettings
)

__all__ = [
    "IMPORT_PATH",
    "CaptionSettings",
    "ConvexHullSettings",
    "CustomTaskSettings",
    "PixelsSettings",
    "SpeechSettings",
    "StorySettings",
    "TapeSettings",
    "TaskSettings",
    "TranslationSettings",
]
