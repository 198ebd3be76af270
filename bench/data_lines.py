"""Makes lines of text for PP-OCRv4's reader: rendered and distorted, and photographed.

Judged are rendered lines of other texts than those of calibration (`rendered`), and the seven lines
of scikit-image's photographed page (`photographed`), each cut out several times, never quite alike.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator
from functools import cache

import data_photos
import data_prose
import data_sources
import data_store
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

TASK = "pp_ocrv4_rec"
CALIBRATION, RENDERED, CUTS = 100, 400, 10
_HEIGHT, _NARROWEST, _WIDEST = 48, 320, 960
_FONTS = "matplotlib/mpl-data/fonts/ttf/"
FACES = tuple(
    f"{_FONTS}{name}.ttf"
    for name in (
        *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique"),
        *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic"),
        *("DejaVuSansMono", "DejaVuSansMono-Bold"),
        *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
    )
)
# The page at twice its size: the box of each line, and how many degrees it falls to the right.
_PAGE = (
    ((6, 16, 592, 74), 0.0, "Region-based segmentation"),
    ((4, 93, 760, 132), 0.0, "Let us first determine markers of the coins and the"),
    ((4, 128, 760, 169), 0.0, "background. These markers are pixels that we can label"),
    ((4, 162, 760, 206), 0.2, "unambiguously as either object or background. Here,"),
    ((4, 196, 760, 242), 0.4, "the markers are found at the two extreme parts of the"),
    ((4, 230, 350, 276), 2.6, "histogram of grey values:"),
    ((30, 332, 490, 382), 1.9, ">>> markers = np.zeros_like(coins)"),
)


@cache
def font(face: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a face out of matplotlib's wheel."""
    return ImageFont.truetype(io.BytesIO(data_sources.read("matplotlib", face)), size)


def make(quick: bool) -> None:
    """Write calibration and both parts to judge by."""
    count, judged, cuts = (10, 20, 1) if quick else (CALIBRATION, RENDERED, CUTS)
    known, unknown = data_photos.halves(0)
    data_store.write(
        TASK, "0", data_store.CALIBRATION, rendered(data_prose.KNOWN, known, count, "calibration")
    )
    data_store.write(
        TASK, "0", "rendered", rendered(data_prose.UNKNOWN, unknown, judged, "rendered")
    )
    data_store.write(TASK, "0", "photographed", photographed(cuts))


def rendered(
    sources: tuple[str, ...], photographs: list[int], count: int, seed: str
) -> Iterator[tuple[dict[str, np.ndarray], str]]:
    """Yield lines of prose and numbers, each with its text."""
    generator = random.Random(seed)
    prose = data_prose.paragraphs(sources)
    for _ in range(count):
        text = some_text(prose, generator)
        yield feed(line(text, photographs, generator)), text


def some_text(prose: tuple[str, ...], generator: random.Random) -> str:
    """Return one to eight words as they stand in a paragraph; now and then a number."""
    if generator.random() < 0.15:
        return generator.choice(
            (
                f"{generator.uniform(0, 10000):.2f}",
                f"{generator.randint(1, 31):02}.{generator.randint(1, 12):02}.2025",
                f"Total: ${generator.randint(1, 99999):,}",
                f"+{generator.randint(1, 99)} {generator.randint(10**5, 10**9)}",
            )
        )
    words = generator.choice(prose).split()
    start = generator.randrange(len(words))
    return " ".join(words[start : start + generator.randint(1, 8)])[:60].strip()


def line(text: str, photographs: list[int], generator: random.Random) -> Image.Image:
    """Render a line on paper or a photograph, then distort it."""
    face = font(generator.choice(FACES), generator.randint(14, 44))
    left, top, right, bottom = face.getbbox(text)
    margin = round((bottom - top) * generator.uniform(0.1, 0.4)) + 1
    size = (round(right - left) + 2 * margin, round(bottom - top) + 2 * margin)
    paper = background(size, photographs, generator)
    ink = Image.new("L", size, 0)
    ImageDraw.Draw(ink).text((margin - left, margin - top), text, 255, font=face)
    ink = ink.rotate(
        generator.uniform(-1, 1) * math.degrees(math.atan(margin / size[0])),
        Image.Resampling.BICUBIC,
    )
    return distort(write_on(paper, ink, generator), generator)


def background(
    size: tuple[int, int], photographs: list[int], generator: random.Random
) -> Image.Image:
    """Return plain paper, or a part of a photograph that was made pale or dark."""
    light = generator.randint(170, 255)
    if generator.random() < 0.5:
        tint = tuple(max(0, light - generator.randint(0, 30)) for _ in range(3))
        return Image.new("RGB", size, tint)
    photograph = data_photos.crop(
        data_photos.photograph(generator.choice(photographs)), generator
    ).resize(size)
    plain = Image.new("RGB", size, (light,) * 3)
    return Image.blend(plain, photograph, generator.uniform(0.1, 0.5))


def write_on(paper: Image.Image, ink: Image.Image, generator: random.Random) -> Image.Image:
    """Put ink on paper in a colour far from the paper's."""
    mean = np.asarray(paper.convert("L"), np.float32).mean()
    low, high = (0, 80) if mean > 128 else (190, 255)
    colour = tuple(generator.randint(low, high) for _ in range(3))
    return Image.composite(Image.new("RGB", paper.size, colour), paper, ink)


def distort(image: Image.Image, generator: random.Random) -> Image.Image:
    """Blur, shade, add noise, compress: each of them more or less."""
    image = image.filter(ImageFilter.GaussianBlur(generator.uniform(0, 0.9)))
    ramp = np.linspace(generator.uniform(0.7, 1), generator.uniform(0.7, 1), image.width)
    pixels = np.asarray(image, np.float32) * ramp[None, :, None].astype(np.float32)
    noise = np.random.default_rng(generator.randrange(2**32))
    pixels += noise.normal(0, generator.uniform(0, 10), pixels.shape)
    file = io.BytesIO()
    noisy = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    noisy.save(file, "JPEG", quality=generator.randint(40, 95))
    return Image.open(file).convert("RGB")


def page(scale: float = 2.0) -> Image.Image:
    """Return scikit-image's photograph of a printed page."""
    content = data_sources.read("scikit-image", "skimage/data/page.png")
    image = Image.open(io.BytesIO(content)).convert("RGB")
    size = (round(image.width * scale), round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC)


def photographed(cuts: int) -> Iterator[tuple[dict[str, np.ndarray], str]]:
    """Yield each line of the page `cuts` times, a little differently cut and lit."""
    generator, image = random.Random("photographed"), page()
    for box, fall, text in _PAGE:
        for _ in range(cuts):
            left, top, right, bottom = (side + generator.randint(-3, 3) for side in box)
            cut = image.crop((left, top, right, bottom))
            cut = cut.rotate(
                fall + generator.uniform(-0.3, 0.3),
                Image.Resampling.BICUBIC,
                fillcolor=cut.getpixel((2, 2)),
            )
            bright = Image.new("RGB", cut.size, (generator.randint(0, 30),) * 3)
            yield feed(ImageChops.add(cut, bright)), text


def feed(image: Image.Image) -> dict[str, np.ndarray]:
    """Scale to 48 rows, blue first, to [-1, 1]; what is narrow is padded with 0 on the right."""
    width = min(max(1, math.ceil(_HEIGHT * image.width / image.height)), _WIDEST)
    pixels = np.asarray(image.resize((width, _HEIGHT), Image.Resampling.BILINEAR), np.float32)
    scaled = (pixels[:, :, ::-1].transpose(2, 0, 1) / 255 - 0.5) / 0.5
    padded = np.zeros((1, 3, _HEIGHT, max(width, _NARROWEST)), np.float32)
    padded[0, :, :, :width] = scaled
    return {"x": padded}
