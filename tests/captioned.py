"""Small corpora of pictures with captions in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SPLITS = ("train", "dev", "train", "test", "train", "none")  # of each picture
COLORS = ("red", "green", "blue")
CAPTIONS = 2


def write_captioned(folder: Path, copies: int = 1, pictures: bool = False) -> dict[str, Any]:
    """A corpus whose pictures, features and captions tell one of three colours; the task's keys that name it.

    Args:
        folder: It is made.
        copies: How often the same six pictures are there, under names of their own.
        pictures: Write them, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    listed, said = [], []
    for row, split in enumerate(SPLITS * copies):
        listed.append(f"{row}.png\t{split}")
        said += [f"{row}.png\t{number}\t{split}\tA {COLORS[row % 3]} thing {number} ." for number in range(CAPTIONS)]
        if pictures:
            pixels = np.zeros((6, 9, 3), np.uint8)
            pixels[..., row % 3] = 200
            Image.fromarray(pixels).save(folder / f"{row}.png")
    (folder / "pictures.tsv").write_text("\n".join(listed) + "\n")
    (folder / "captions.tsv").write_text("\n".join(said) + "\n")
    told = np.eye(3, 4)[np.arange(len(listed)) % 3]
    regions = np.broadcast_to(told[:, None, None], (len(listed), 2, 3, 4))
    np.savez(folder / "features.npz", regions=regions.astype(np.float16), pooled=told.astype(np.float32))
    keys = {"picture_file": "pictures.tsv", "caption_file": "captions.tsv", "feature_file": "features.npz"}
    return {key: str(folder / name) for key, name in keys.items()} | {"captions": CAPTIONS}
