"""Makes crops of photographs for EfficientNet-Lite0: calibration and judgement on different ones.

The photographs are those in the wheels of scikit-image, scikit-learn, SciPy, imgaug and matplotlib.
A split halves them by lot; its second part, `same`, are other crops of the photographs that
calibration saw.
"""

from __future__ import annotations

import bz2
import io
import random
from functools import cache

import data_sources
import data_store
import numpy as np
from PIL import Image

TASK = "efficientnet_lite0"
SPLITS, CALIBRATION, OTHER, SAME = 4, 100, 300, 150
MANY = (10, 100, 1000)
_SIDE = 224
_AREA, _ASPECT = (0.15, 1.0), (3 / 4, 4 / 3)

_SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png", "clock_motion.png"),
    *("coffee.png", "coins.png", "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png"),
    *("moon.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg"),
)
PHOTOGRAPHS = (
    *(("scikit-image", f"skimage/data/{name}") for name in _SKIMAGE),
    ("scikit-learn", "sklearn/datasets/images/china.jpg"),
    ("scikit-learn", "sklearn/datasets/images/flower.jpg"),
    ("scipy-1.9", "scipy/misc/face.dat"),
    ("imgaug", "imgaug/quokka.jpg"),
    ("matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg"),
)


@cache
def photograph(index: int) -> Image.Image:
    """Return a photograph in three channels."""
    source, member = PHOTOGRAPHS[index]
    content = data_sources.read(source, member)
    if member.endswith("face.dat"):
        pixels = np.frombuffer(bz2.decompress(content), np.uint8).reshape(768, 1024, 3)
        return Image.fromarray(pixels)
    return Image.open(io.BytesIO(content)).convert("RGB")


def halves(split: int) -> tuple[list[int], list[int]]:
    """Return the photographs of calibration and those of judgement; odd splits are swapped."""
    order = list(range(len(PHOTOGRAPHS)))
    random.Random(split // 2).shuffle(order)
    middle = len(order) // 2
    first, second = sorted(order[:middle]), sorted(order[middle:])
    return (second, first) if split % 2 else (first, second)


def make(quick: bool) -> None:
    """Write every split."""
    for split in range(1 if quick else SPLITS):
        known, unknown = halves(split)
        counts = (10, 20, 10) if quick else (CALIBRATION, OTHER, SAME)
        given = ((data_store.CALIBRATION, known), ("other", unknown), ("same", known))
        for (part, photographs), count in zip(given, counts, strict=True):
            generator = random.Random(f"{split} {part}")
            # What is alike stands together: samples that are held back are stretches.
            order = [photographs[place * len(photographs) // count] for place in range(count)]
            samples = (
                (feed(crop(photograph(which), generator)), PHOTOGRAPHS[which][1]) for which in order
            )
            data_store.write(TASK, str(split), part, samples)


def make_many() -> None:
    """Write calibrations of growing size, for what they take of time and memory."""
    known, _ = halves(0)
    for count in MANY:
        generator = random.Random("many")
        samples = (
            (feed(crop(photograph(known[index % len(known)]), generator)), None)
            for index in range(count)
        )
        data_store.write(f"{TASK}_many", str(count), data_store.CALIBRATION, samples)


def crop(image: Image.Image, generator: random.Random) -> Image.Image:
    """Return a crop of random place, size and aspect, mirrored or not, at the model's size."""
    for _ in range(20):
        area = image.width * image.height * generator.uniform(*_AREA)
        aspect = generator.uniform(*_ASPECT)
        width, height = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if width <= image.width and height <= image.height:
            break
    else:
        width = height = min(image.size)
    left = generator.randint(0, image.width - width)
    top = generator.randint(0, image.height - height)
    box = (left, top, left + width, top + height)
    found = image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC, box=box)
    mirrored = generator.random() < 0.5
    return found.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else found


def feed(image: Image.Image) -> dict[str, np.ndarray]:
    """Normalise as the model was trained: (x - 127) / 128, channels first."""
    pixels = np.asarray(image, np.float32).transpose(2, 0, 1)[None]
    return {"input": (pixels - 127) / 128}
