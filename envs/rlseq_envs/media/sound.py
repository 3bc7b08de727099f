"""Sounds: rows of samples, WAV files, and log-mel frames, which networks read."""

from __future__ import annotations

import wave
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rlseq_envs.task import Floats, Ints

Samples = npt.NDArray[np.int16]
Frames = npt.NDArray[np.float32]

RANGE = 80.0  # decibels below the loudest that are told apart
_SILENT = 1e-20  # power
_KNEE, _HERTZ, _STEP = 1000.0, 200 / 3, np.log(6.4) / 27  # the mel scale: linear up to the knee, then logarithmic


@dataclass(frozen=True)
class Sounds:
    """Rows of samples of unequal length, in one flat buffer.

    Attributes:
        values: (total,) int16, all rows one after another.
        offsets: (rows + 1,) int64, row i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: Samples
    offsets: Ints

    @classmethod
    def gather(cls, rows: Iterable[Samples]) -> Sounds:
        """Rows one after another."""
        listed = [np.zeros(0, np.int16), *rows]
        return cls(np.concatenate(listed), np.cumsum([len(row) for row in listed], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Samples:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Ints:
        """(rows,) samples of each row."""
        return np.diff(self.offsets)


def read_wave(path: Path, rate: int) -> Samples:
    """The samples of a WAV file of one channel and 16 bits.

    Args:
        path: The file.
        rate: Samples a second that it has to have.

    Raises:
        ValueError: It cannot be used; the message says why, and not which file.
    """
    if not path.is_file():
        raise ValueError("is no file: check its path")
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, found, count = file.getparams()[:4]
            if channels != 1 or width != 2:
                raise ValueError(f"has {channels} channels of {8 * width} bits: convert it to one channel of 16 bits")
            if found != rate:
                raise ValueError(f"has {found:,} samples a second: convert it to {rate:,}, or set task.sample_rate")
            samples = np.frombuffer(file.readframes(count), "<i2").astype(np.int16)
    except (OSError, EOFError, wave.Error) as error:
        raise ValueError(f"cannot be read as a WAV file ({str(error) or 'it ends early'})") from error
    if len(samples) < count or not count:
        raise ValueError(f"holds {len(samples):,} of {count:,} samples: record or copy it again")
    return samples


@dataclass(frozen=True)
class LogMel:
    """Log-mel frames of a sound, in decibels below its loudest band, cut at 80, scaled to −2 … 2.

    Power spectra under a periodic Hann window, no padding at either end; triangles of area 1 on Slaney's mel scale,
    from 0 to half the sample rate. Equal to librosa's ``melspectrogram(n_fft=window, hop_length=hop, n_mels=bands,
    center=False)`` and ``power_to_db(ref=np.max, amin=1e-20)``, + 40 and / 20.

    Attributes:
        rate: Samples a second.
        window: Samples that a frame reads; shorter sounds are lengthened by silence.
        hop: Samples from one frame to the next.
        bands: Numbers of a frame.

    Raises:
        ValueError: Bands are so many that some are narrower than what the window can tell apart.
    """

    rate: int
    window: int
    hop: int
    bands: int

    def __post_init__(self) -> None:
        empty = int((self.filters.sum(axis=0) == 0).sum())
        if empty:
            raise ValueError(f"bands is {self.bands}, of which {empty} hold no frequency: lower it, or raise window")

    def counts(self, samples: Ints) -> Ints:
        """Frames of sounds of so many samples."""
        return 1 + np.maximum(samples - self.window, 0) // self.hop

    def __call__(self, sound: Samples) -> Frames:
        """Frames (frames, bands) of samples (samples,)."""
        padded = np.pad(sound, (0, max(0, self.window - len(sound)))).astype(np.float32) / np.float32(1 << 15)
        parts = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop]
        spectrum = np.fft.rfft(parts * self._hann)
        power = np.maximum((spectrum.real**2 + spectrum.imag**2) @ self.filters, _SILENT)
        decibels = np.maximum(10 * np.log10(power / power.max()), -RANGE)
        return ((decibels + RANGE / 2) / (RANGE / 4)).astype(np.float32)

    @cached_property
    def _hann(self) -> Frames:
        return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)).astype(np.float32)

    @cached_property
    def filters(self) -> Frames:
        """Weights (1 + window // 2, bands) of the frequencies of a spectrum in each band."""
        frequencies = np.arange(1 + self.window // 2) * (self.rate / self.window)
        edges = mel_to_hertz(np.linspace(0.0, hertz_to_mel(np.array(self.rate / 2)), self.bands + 2))
        low, middle, high = edges[:-2], edges[1:-1], edges[2:]
        rising = (frequencies[:, None] - low) / (middle - low)
        falling = (high - frequencies[:, None]) / (high - middle)
        triangles = np.maximum(0.0, np.minimum(rising, falling))
        return (triangles * (2 / (high - low))).astype(np.float32)


def hertz_to_mel(hertz: Floats) -> Floats:
    """The mel scale of the Auditory Toolbox (Slaney 1998), librosa's default: linear up to 1 kHz, then logarithmic."""
    above = _KNEE / _HERTZ + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _STEP
    return np.where(hertz < _KNEE, hertz / _HERTZ, above)


def mel_to_hertz(mel: Floats) -> Floats:
    """The inverse of ``hertz_to_mel``."""
    above = _KNEE * np.exp(_STEP * np.maximum(mel - _KNEE / _HERTZ, 0.0))
    return np.where(mel < _KNEE / _HERTZ, mel * _HERTZ, above)
