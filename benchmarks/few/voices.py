"""Pictures of spoken digits.

Log-mel spectrograms of words that the program espeak-ng says in several accents.
"""

from __future__ import annotations

import shutil
import subprocess

import numpy as np

from harness.base.errors import InputError

SIDE = 64
"""Mel bands and frames of a picture."""
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-gb-x-gbclan", "en-029")
"""Voices of espeak-ng: Received Pronunciation, American, Scottish, Lancastrian and Caribbean
English.
"""
ABSENT = "en-029"
"""The accent that training lacks in a fault."""
SPEAKERS = (*(f"m{number}" for number in range(1, 8)), *(f"f{number}" for number in range(1, 5)))
RATE_HZ, WINDOW, HOP = 22_050, 512, 276
"""Samples a second, in a window and between windows; 64 windows are 0.8 s."""
LOWEST_HZ, HIGHEST_HZ = 60.0, 8_000.0
QUIETEST_DB, LOUDEST_DB = -25.0, 45.0
"""Levels of a band that are black and white."""
NOISE = (0.01, 0.08)
"""Range of the standard deviation of white noise, as a share of the largest amplitude."""
PICTURE_NOISE = 80.0
"""Standard deviation of the noise on a picture, in gray levels; without it, no network errs."""


def spoken_digits(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return spectrograms (N, 64, 64, 1) uint8, labels (N,) and accents (N,).

    Time goes to the right. Accent, speaker, pitch, speed, place in time and noise are drawn at
    random.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(WORDS), size=count)
    accents = rng.choice(ACCENTS, size=count)
    filters = mel_filters()
    images = np.empty((count, SIDE, SIDE, 1), np.uint8)
    for row in range(count):
        sound = _spoken(WORDS[labels[row]], str(accents[row]), rng)
        images[row, :, :, 0] = _spectrogram(_placed(sound, rng), filters)
    noise = np.random.default_rng([seed, 1]).normal(0, PICTURE_NOISE, images.shape)
    noisy = (images + noise).round().clip(0, 255).astype(np.uint8)
    return noisy, labels, accents


def _spoken(word: str, accent: str, rng: np.random.Generator) -> np.ndarray:
    """Return the samples of a word in [-1, 1], without silence around it.

    Raises:
        InputError: Without espeak-ng.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise InputError("espeak-ng is missing; install the Debian package espeak-ng")
    voice = f"{accent}+{rng.choice(SPEAKERS)}"
    pitch, speed = rng.integers(20, 80), rng.integers(130, 220)
    command = [program, "-v", voice, "-p", str(pitch), "-s", str(speed), "--stdout", word]
    content = subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603  The command is ours.

    header_bytes = 44
    samples = np.frombuffer(content[header_bytes:], "<i2").astype(np.float64)
    samples /= np.abs(samples).max()
    loud = np.flatnonzero(np.abs(samples) > 0.01)
    return samples[loud[0] : loud[-1] + 1]


def _placed(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a sound in 64 windows with noise, its middle near theirs.

    Longer sounds lose their ends.
    """
    length = WINDOW + (SIDE - 1) * HOP
    noise = rng.normal(0, rng.uniform(*NOISE), length)
    middle = length // 2 + int(rng.integers(-4 * HOP, 4 * HOP + 1))
    start = middle - len(sound) // 2
    first, last = max(start, 0), min(start + len(sound), length)
    noise[first:last] += sound[first - start : last - start]
    return noise


def _spectrogram(samples: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return levels of mel bands, (64, 64) uint8, with high bands on top."""
    windows = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(windows * np.hanning(WINDOW), axis=1)) ** 2
    decibels = 10 * np.log10(power @ filters.T + 1e-10)
    shares = (decibels - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB)
    levels = (255 * shares).round().clip(0, 255).astype(np.uint8)
    return np.asarray(levels.T[::-1])


def mel_filters() -> np.ndarray:
    """Return triangular filters on the mel scale, (64, frequencies), each with a sum of 1."""
    mels = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), SIDE + 2)
    edges = 700 * (10 ** (mels / 2595) - 1)  # O'Shaughnessy 1987, the inverse of `_mel`.
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE_HZ)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    filters = np.maximum(np.minimum(rising, falling), 0)

    # The lowest filters are narrower than the distance of frequencies: they take the nearest one.
    nearest = np.abs(frequencies - edges[1:-1, None]).argmin(axis=1)
    filters[np.arange(SIDE), nearest] += 1e-3
    return np.asarray(filters / filters.sum(axis=1, keepdims=True))


def _mel(frequency_hz: float) -> float:
    return float(2595 * np.log10(1 + frequency_hz / 700))
