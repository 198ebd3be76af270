"""Draws pictures to feed to vision models: lines of dark strokes on a light, shaded ground.

Noise is no picture. A text detector answers 1e-7 everywhere to uniform noise, so that its output
says nothing about what was computed; to a picture with edges it answers with all of [0, 1].
"""

from __future__ import annotations

import numpy as np


def draw_pictures(
    count: int, height: int, width: int, channels: int, rng: np.random.Generator
) -> np.ndarray:
    """Return `count` pictures with values in [0, 1], as [count, channels, height, width]."""
    pictures = np.stack([_picture(height, width, rng) for _ in range(count)])
    tints = rng.uniform(0.7, 1.0, (count, channels, 1, 1))
    grain = rng.normal(0, 0.03, (count, channels, height, width))
    return np.clip(pictures[:, None] * tints + grain, 0, 1)


def _picture(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    down, across = np.mgrid[0:height, 0:width]
    angle = rng.uniform(0, np.pi)
    slope = np.cos(angle) * across / width + np.sin(angle) * down / height
    ground: np.ndarray = 0.9 - 0.15 * slope
    letter = max(3, min(20, height // 4))
    for top in range(letter // 2, height - letter, 2 * letter):
        _write_line(ground[top : top + letter], letter, rng)
    return ground


def _write_line(line: np.ndarray, letter: int, rng: np.random.Generator) -> None:
    """Fill a strip with strokes the size of letters; a quarter of the places stay blank."""
    wide, thick = max(2, letter // 2), max(1, letter // 6)
    strokes = [
        (slice(None), slice(0, thick)),
        (slice(None), slice(wide - thick, wide)),
        (slice(0, thick), slice(0, wide)),
        (slice(letter // 2, letter // 2 + thick), slice(0, wide)),
        (slice(letter - thick, letter), slice(0, wide)),
    ]
    for left in range(wide, line.shape[1] - wide, wide + max(1, letter // 4)):
        if rng.random() < 0.25:
            continue
        place = line[:, left : left + wide]
        for stroke in rng.choice(len(strokes), 3, replace=False):
            place[strokes[stroke]] = 0.1
