"""Made digits: three formants under a pitch, and noise, that glide through the sounds of a word.

They are stand-ins for recordings, not speech. A clip is a function of seed, speaker, digit and take alone. A speaker
has a pitch, a length of the vocal tract, a tempo, a loudness and a room; takes differ a little in some of them.
"""

from __future__ import annotations

import numpy as np

from rlseq_envs.counters import counter_uniforms
from rlseq_envs.media.recordings import DIGITS, Clips
from rlseq_envs.media.sound import Samples, Sounds
from rlseq_envs.task import Floats, Ints

# Frequencies of three formants in Hz, loudness of voice, loudness of noise and its frequency in Hz, milliseconds.
_PHONES = {
    "iy": (270, 2290, 3010, 0.9, 0.0, 3000, 110),
    "ih": (390, 1990, 2550, 1.0, 0.0, 3000, 70),
    "eh": (530, 1840, 2480, 1.0, 0.0, 3000, 80),
    "ah": (640, 1190, 2390, 1.0, 0.0, 3000, 90),
    "aa": (730, 1090, 2440, 1.0, 0.0, 3000, 80),
    "ao": (570, 840, 2410, 1.0, 0.0, 3000, 110),
    "ow": (460, 900, 2350, 1.0, 0.0, 3000, 90),
    "uw": (300, 870, 2240, 0.9, 0.0, 3000, 100),
    "w": (290, 610, 2150, 0.6, 0.0, 3000, 50),
    "r": (310, 1060, 1380, 0.6, 0.0, 3000, 50),
    "n": (250, 1400, 2300, 0.4, 0.0, 3000, 70),
    "v": (300, 1100, 2300, 0.3, 0.15, 2800, 60),
    "f": (400, 1100, 2300, 0.0, 0.2, 2600, 90),
    "th": (400, 1400, 2500, 0.0, 0.15, 2200, 70),
    "s": (400, 1700, 2600, 0.0, 0.6, 3600, 100),
    "z": (300, 1700, 2600, 0.3, 0.4, 3500, 70),
    "-": (400, 1500, 2500, 0.0, 0.0, 2500, 40),  # the closure before a burst
    "t": (400, 1800, 2600, 0.0, 0.6, 3200, 25),
    "k": (400, 1800, 2400, 0.0, 0.5, 1900, 30),
}
_WORDS = (
    "z ih r ow", "w ah n", "- t uw", "th r iy", "f ao r",
    "f aa ih v", "s ih - k s", "s eh v ah n", "eh iy - t", "n aa ih n",
)  # fmt: skip
_TRACT = 0.7  # how much of a voice's pitch tells of the length of its tract
_OF_SPEAKER, _OF_TAKE, _NOISE = 0, 1 << 20, 1 << 21  # counters of their own


def make_clips(seed: int, speakers: Ints, takes: int, rate: int) -> Clips:
    """All digits, each as often, by some speakers.

    Args:
        seed: Chooses the family of speakers.
        speakers: Their numbers, each stands for one.
        takes: Clips of a digit by a speaker.
        rate: Samples a second.
    """
    voices = counter_uniforms(seed, _OF_SPEAKER, speakers, 1, 5)[:, 0]
    speaker, digit, take = (grid.ravel() for grid in np.indices((len(speakers), len(DIGITS), takes)))
    ids = (speakers[speaker] * len(DIGITS) + digit) * takes + take
    changes = counter_uniforms(seed, _OF_TAKE, ids, 1, 4)[:, 0]
    sounds = (
        _say(seed, int(number), _WORDS[word].split(), voice, change, rate)
        for number, word, voice, change in zip(ids, digit, voices[speaker], changes, strict=True)
    )
    return Clips(Sounds.gather(sounds), digit, speakers[speaker])


def _say(seed: int, number: int, phones: list[str], voice: Floats, change: Floats, rate: int) -> Samples:
    """One word. Uniforms say how it sounds: of a ``voice`` pitch, tract, tempo, loudness, room; ``change`` likewise."""
    table = np.array([_PHONES[phone] for phone in phones])
    tempo = 0.75 + 0.5 * voice[2] + 0.2 * (change[2] - 0.5)
    lasts = table[:, 6] / 1000 / tempo
    ends = np.cumsum(lasts)
    samples = int(ends[-1] * rate)
    # A phone's middle is its target; in between everything glides.
    glide = np.arange(samples) / rate
    targets = ends - lasts / 2
    tract = 0.8 + 0.45 * (_TRACT * voice[0] + (1 - _TRACT) * voice[1]) + 0.06 * (change[1] - 0.5)
    formants = np.stack([np.interp(glide, targets, tract * table[:, place]) for place in range(3)])
    voiced, noisy, hiss = (np.interp(glide, targets, table[:, place]) for place in (3, 4, 5))
    fade = np.minimum(1.0, np.minimum(glide, glide[::-1]) / 0.015)
    pitch = (90 + 130 * voice[0]) * (1.1 - 0.2 * glide / ends[-1] + 0.1 * (change[0] - 0.5))
    # Each pulse of the pitch lets the formants ring.
    pulse = np.exp(2.5 * (np.cos(_phase(pitch, rate)) - 1))
    tone = np.array([1.0, 0.5, 0.25]) @ np.sin(_phase(formants, rate)) * pulse * voiced
    white = counter_uniforms(seed, _NOISE, np.array([number]), 2, samples + 3)[0] - 0.5
    breath = np.convolve(white[0], np.ones(4) / 2, "valid") * np.cos(_phase(hiss, rate)) * noisy * 2
    room = 10 ** (-2.0 + 1.4 * voice[4]) * white[1, :samples]
    loudness = 10 ** (-0.9 * voice[3] - 0.2 * change[3])
    sound = (0.5 * fade * (tone + breath) + room) * loudness
    return (np.clip(sound, -1, 1) * 32767).astype(np.int16)


def _phase(hertz: Floats, rate: int) -> Floats:
    return 2 * np.pi * np.cumsum(hertz, axis=-1) / rate
