"""Makes pages for PP-OCRv4's finder of text: set on paper and photographs, and photographed.

Judged are pages of other texts on other photographs (`composed`), and scikit-image's photographs of
a printed page and of handwriting at several sizes and angles (`photographed`).
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import data_lines
import data_photos
import data_prose
import data_sources
import data_store
import numpy as np
from PIL import Image, ImageDraw

TASK = "pp_ocrv4_det"
CALIBRATION, COMPOSED, TURNS = 40, 60, 8
_STEP = 32
_SIDES = (12, 20)


def make(quick: bool) -> None:
    """Write calibration and both parts to judge by."""
    count, judged, turns = (4, 6, 1) if quick else (CALIBRATION, COMPOSED, TURNS)
    known, unknown = data_photos.halves(0)
    calibration = composed(data_prose.KNOWN, known, count, "pages for calibration")
    data_store.write(TASK, "0", data_store.CALIBRATION, calibration)
    judging = composed(data_prose.UNKNOWN, unknown, judged, "pages to judge by")
    data_store.write(TASK, "0", "composed", judging)
    data_store.write(TASK, "0", "photographed", photographed(turns))


def composed(
    sources: tuple[str, ...], photographs: list[int], count: int, seed: str
) -> Iterator[tuple[dict[str, np.ndarray], None]]:
    """Yield pages of 384 to 640 pixels a side."""
    generator = random.Random(seed)
    prose = data_prose.paragraphs(sources)
    for _ in range(count):
        size = (generator.randint(*_SIDES) * _STEP, generator.randint(*_SIDES) * _STEP)
        paper = data_lines.background(size, photographs, generator)
        ink = Image.new("L", size, 0)
        _set(ImageDraw.Draw(ink), size, prose, generator)
        ink = ink.rotate(generator.uniform(-4, 4), Image.Resampling.BICUBIC)
        image = data_lines.write_on(paper, ink, generator)
        yield feed(data_lines.distort(image, generator)), None


def _set(
    draw: ImageDraw.ImageDraw,
    size: tuple[int, int],
    prose: tuple[str, ...],
    generator: random.Random,
) -> None:
    """Set paragraphs from top to bottom, each in a face and size of its own."""
    width, height = size
    top = generator.randint(8, 60)
    while top < height - 20:
        face = data_lines.font(generator.choice(data_lines.FACES), generator.randint(12, 34))
        left, words = generator.randint(8, width // 3), generator.choice(prose).split()
        for _ in range(generator.randint(1, 5)):
            line = ""
            while words and draw.textlength(f"{line} {words[0]}", face) < width - left - 8:
                line = f"{line} {words.pop(0)}".strip()
            if not line:
                break
            draw.text((left, top), line, 255, font=face)
            top += round(1.3 * face.size)
        top += generator.randint(8, 60)


def photographed(turns: int) -> Iterator[tuple[dict[str, np.ndarray], None]]:
    """Yield both photographs `turns` times, at different sizes and angles."""
    generator = random.Random("photographed pages")
    content = data_sources.read("scikit-image", "skimage/data/text.png")
    handwriting = Image.open(io.BytesIO(content)).convert("RGB")
    for image in (data_lines.page(1.0), handwriting):
        for _ in range(turns):
            scale = generator.uniform(1.0, 2.0)
            size = (round(image.width * scale), round(image.height * scale))
            turned = image.resize(size, Image.Resampling.BICUBIC).rotate(
                generator.uniform(-5, 5), Image.Resampling.BICUBIC, fillcolor=(128,) * 3
            )
            yield feed(turned), None


def feed(image: Image.Image) -> dict[str, np.ndarray]:
    """Scale both sides to a multiple of 32, blue first, to [-1, 1]."""
    size = [max(_STEP, round(side / _STEP) * _STEP) for side in image.size]
    pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
    return {"x": ((pixels[:, :, ::-1].transpose(2, 0, 1) / 255 - 0.5) / 0.5)[None]}
