"""Log-mel frames: librosa's numbers, scipy's spectra under a filter bank written out; WAV files and their faults."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.signal import get_window, spectrogram

from rlseq_envs.media.sound import LogMel, Samples, Sounds, hertz_to_mel, mel_to_hertz, read_wave
from rlseq_envs.task import Floats

TIMES = np.arange(2000)
CHIRP = (8000 * np.sin(0.75e-4 * np.pi * TIMES**2) + 500 * np.cos(0.3 * TIMES)).astype(np.int16)
# Of CHIRP, by librosa 0.11.0: frames 0, 5 and the last one, bands 0, 7, 19 and the last one of
# (power_to_db(feature.melspectrogram(y=CHIRP / 32768, sr=…, n_fft=…, hop_length=…, n_mels=…, center=False),
# ref=np.max, amin=1e-20) + 40) / 20.
LIBROSA = {
    (8000, 200, 80, 40): [
        [1.9908729791641235, 0.018754959106445312, -2.0, -2.0],
        [-0.4821479916572571, -0.11564712226390839, -2.0, -2.0],
        [-2.0, 0.019600296393036842, 1.8527820110321045, -2.0],
    ],
    (16000, 512, 160, 80): [
        [1.0092523097991943, 1.9955543279647827, 1.0384397506713867, -2.0],
        [-2.0, -2.0, 1.0324128866195679, -2.0],
        [-2.0, -2.0, 1.029026746749878, -2.0],
    ],
}
# By librosa 0.11.0, filters.mel(sr=…, n_fft=…, n_mels=…): the sums of bands 0, 7, 19 and the last one.
SUMS = {
    (8000, 200, 80, 40): [0.02274375408887863, 0.02274375408887863, 0.02665475755929947, 0.024884410202503204],
    (16000, 512, 160, 80): [0.031172271817922592, 0.031172271817922592, 0.031729985028505325, 0.03193053603172302],
}


def noise(samples: int, seed: int = 0) -> Samples:
    return (3000 * np.random.default_rng(seed).standard_normal(samples)).astype(np.int16)


@pytest.mark.parametrize("shape", LIBROSA)
def test_frames_are_librosas(shape: tuple[int, int, int, int]) -> None:
    log_mel = LogMel(*shape)
    bands = [0, 7, 19, log_mel.bands - 1]
    frames = log_mel(CHIRP)
    np.testing.assert_allclose(frames[[0, 5, -1]][:, bands], LIBROSA[shape], atol=1e-4)
    np.testing.assert_allclose(log_mel.filters[:, bands].sum(axis=0), SUMS[shape], rtol=1e-6)


def plain(sound: Samples, rate: int, window: int, hop: int, bands: int) -> Floats:
    """The same from scipy's spectra, one triangle after another."""
    _, _, magnitudes = spectrogram(
        sound / 32768, rate, "hann", window, window - hop, detrend=False, scaling="spectrum", mode="magnitude"
    )
    power = (magnitudes * get_window("hann", window).sum()) ** 2
    mels = np.linspace(0, 15 + 27 * np.log(rate / 2000) / np.log(6.4), bands + 2)
    edges = [200 / 3 * mel if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27) for mel in mels]
    rows = []
    for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
        weights = [
            max(0.0, min((f - low) / (middle - low), (high - f) / (high - middle))) * 2 / (high - low)
            for f in np.arange(1 + window // 2) * rate / window
        ]
        rows.append(np.array(weights) @ power)
    decibels = 10 * np.log10(np.maximum(np.array(rows).T, 1e-20))
    return (np.maximum(decibels - decibels.max(), -80) + 40) / 20


def test_frames_are_those_of_another_library_and_the_formula() -> None:
    sound = noise(1600)
    sound[700:] //= 50
    for shape in ((8000, 160, 80, 20), (16000, 400, 160, 60)):
        np.testing.assert_allclose(LogMel(*shape)(sound), plain(sound, *shape), atol=1e-3)


def test_the_mel_scale_is_linear_up_to_1000_hertz_and_inverted() -> None:
    hertz = np.array([0.0, 200.0, 999.0, 1000.0, 6400.0])
    np.testing.assert_allclose(hertz_to_mel(hertz), [0, 3, 14.985, 15, 42], rtol=1e-12)
    np.testing.assert_allclose(mel_to_hertz(hertz_to_mel(hertz)), hertz, rtol=1e-12)


def test_every_sound_has_a_frame_and_as_many_as_are_counted() -> None:
    log_mel = LogMel(8000, 200, 80, 20)
    for samples in (1, 199, 200, 279, 280, 281, 1000):
        frames = log_mel(noise(samples))
        assert frames.shape == (log_mel.counts(np.array([samples]))[0], 20) and frames.dtype == np.float32
        assert frames.max() == 2.0 and frames.min() >= -2.0


def test_loudness_does_not_count_and_silence_is_the_floor() -> None:
    log_mel, sound = LogMel(8000, 200, 80, 20), noise(1000) // 8
    sound[600:] = 0
    np.testing.assert_allclose(log_mel(sound * 4), log_mel(sound), atol=1e-4)
    assert (log_mel(sound)[-1] == -2.0).all()
    assert np.isfinite(log_mel(np.zeros(500, np.int16))).all()


def test_more_bands_than_a_window_can_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bands is 120, of which \d+ hold no frequency: lower it, or raise window"):
        LogMel(8000, 200, 80, 120)


def test_rows_of_samples() -> None:
    rows = [noise(3), noise(5, 1), noise(1, 2)]
    sounds = Sounds.gather(rows)
    assert len(sounds) == 3 and sounds.lengths.tolist() == [3, 5, 1]
    for row, wanted in enumerate(rows):
        np.testing.assert_array_equal(sounds[row], wanted)
    assert len(Sounds.gather([])) == 0


# ------------------------------------------------------------------------------------------------------------- WAV
def write(path: Path, samples: Samples, rate: int = 8000, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    sound = noise(321)
    np.testing.assert_array_equal(read_wave(write(tmp_path / "a.wav", sound), 8000), sound)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda path: path.unlink(), "is no file: check its path"),
        (lambda path: path.write_bytes(b""), r"cannot be read as a WAV file \(it ends early\)"),
        (lambda path: path.write_bytes(b"no sound at all" * 9), "cannot be read as a WAV file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), r"holds 50 of 100 samples: record or copy it again"),
        (lambda path: write(path, noise(0)), "holds 0 of 0 samples"),
        (lambda path: write(path, noise(100), rate=16000), "has 16,000 samples a second: convert it to 8,000"),
        (lambda path: write(path, noise(100), channels=2), "has 2 channels of 16 bits: convert it to one channel"),
        (lambda path: write(path, noise(100), width=1), "has 1 channels of 8 bits: convert it to one channel"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(break_it: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", noise(100))
    break_it(path)
    with pytest.raises(ValueError, match=message):
        read_wave(path, 8000)
