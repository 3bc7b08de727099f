"""Which digit a picture shows: a small classifier in numpy, which a reward asks."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlseq_envs.task import Bools, Floats, Ints

_Weights = npt.NDArray[np.float32]
_UPDATES, _BATCH, _RATE, _DECAY = 2000, 100, 0.002, 1e-4
_SHIFT = 14  # of a picture's side, training pictures are moved by one in so many: the shape counts, not the place


class Recogniser:
    """One hidden layer of rectified units, and a softmax over ten digits.

    Args:
        weights: (pixels, units), (units,), (units, 10) and (10,).

    Attributes:
        digest: SHA-256 of the weights, in hexadecimal; equal ones give equal rewards.
    """

    def __init__(self, weights: tuple[_Weights, ...]) -> None:
        # Rounded, so that sums in another order, as other libraries take them, hardly ever make another classifier.
        self.weights = tuple(np.round(weight.astype(np.float32), 3) for weight in weights)
        self.digest = hashlib.sha256(b"".join(weight.tobytes() for weight in self.weights)).hexdigest()

    def log_probs(self, pictures: Bools) -> Floats:
        """Log-probability of each digit, (pictures, 10), of pictures (pictures, pixels), to nine decimals.

        What is beyond them depends on which pictures are asked for together.
        """
        first, shift, second, bias = (weight.astype(np.float64) for weight in self.weights)
        logits = np.maximum(pictures.astype(np.float64) @ first + shift, 0) @ second + bias
        return np.round(_log_softmax(logits), 9)

    @staticmethod
    def train(pictures: Bools, digits: Ints, units: int, seed: int) -> Recogniser:
        """Learn from labelled pictures by Adam (Kingma & Ba 2015): the same from the same.

        Args:
            pictures: (pictures, side, side).
            digits: (pictures,).
            units: Of the hidden layer.
            seed: Of the first weights, and of which pictures are learned from and how they are moved.
        """
        generator, side = np.random.default_rng(seed), pictures.shape[1]
        sizes = (side**2, units, 10)
        weights: list[_Weights] = []
        for before, after in pairwise(sizes):
            drawn = generator.standard_normal((before, after)) * (2 / before) ** 0.5
            weights += [drawn.astype(np.float32), np.zeros(after, np.float32)]
        means, squares = ([np.zeros_like(weight) for weight in weights] for _ in range(2))
        most = side // _SHIFT
        for update in range(_UPDATES):
            rows = generator.integers(0, len(pictures), _BATCH)
            moved = np.roll(pictures[rows], generator.integers(-most, most + 1, 2), (1, 2))
            rate = _RATE * (1 - update / _UPDATES) * (1 - 0.999 ** (update + 1)) ** 0.5 / (1 - 0.9 ** (update + 1))
            for number, gradient in enumerate(_gradients(weights, moved.reshape(len(rows), -1), digits[rows])):
                means[number] += 0.1 * (gradient - means[number])
                squares[number] += 0.001 * (gradient**2 - squares[number])
                weights[number] -= rate * means[number] / (np.sqrt(squares[number]) + 1e-8)
        return Recogniser(tuple(weights))

    def save(self, path: Path) -> None:
        """Write the weights as an ``.npz``."""
        np.savez(path, *self.weights)

    @staticmethod
    def load(path: Path, pixels: int) -> Recogniser:
        """Read what ``save`` wrote.

        Raises:
            ValueError: It cannot be read, or is for pictures of another size.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                weights = tuple(file[f"arr_{number}"] for number in range(4))
            units = weights[0].shape[1]
            if [weight.shape for weight in weights] != [(pixels, units), (units,), (units, 10), (10,)]:
                raise ValueError(f"its weights are not for pictures of {pixels} pixels")
            return Recogniser(weights)
        except Exception as problem:  # damaged archives raise errors of many types
            told = " ".join(str(problem).split()) or type(problem).__name__
            raise ValueError(f"{path}: cannot be read as a classifier of digits ({told})") from problem


def _gradients(weights: list[_Weights], pictures: Bools, digits: Ints) -> list[_Weights]:
    """Of the mean −log p, with weight decay, by each of the weights."""
    first, shift, second, bias = weights
    inputs = pictures.astype(np.float32)
    hidden = np.maximum(inputs @ first + shift, 0)
    wrong = np.exp(_log_softmax(hidden @ second + bias))
    wrong[np.arange(len(digits)), digits] -= 1
    wrong /= len(digits)
    back = (wrong @ second.T) * (hidden > 0)
    return [inputs.T @ back + _DECAY * first, back.sum(0), hidden.T @ wrong + _DECAY * second, wrong.sum(0)]


def _log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
