"""Pages of the documentation, and the code in them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / "docs" / "howto" / "environments.md"
OWN_LOGGER = ROOT / "docs" / "howto" / "own-logger.md"
OWN_NETWORK = ROOT / "docs" / "howto" / "own-network.md"
OWN_REWARD = ROOT / "docs" / "howto" / "own-reward.md"
OWN_TASK = ROOT / "docs" / "howto" / "own-task.md"
PYTHON = ROOT / "docs" / "howto" / "python.md"


def blocks(page: Path, language: str) -> list[str]:
    """A page's code blocks in a language."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    return [block for found, block in fenced if found == language]
