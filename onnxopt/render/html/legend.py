"""Tells series apart in the figures of a page, and names them in their legends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from onnxopt.render.html.figures import Look

SeriesName = tuple[str, str]
"""A model, and all of its setting that a figure's axis does not tell."""


@dataclass(frozen=True, kw_only=True)
class Key:
    """A line of a legend."""

    text: str
    colour: int
    shape: int


def looks_of(names: Iterable[SeriesName], order: Mapping[str, int]) -> dict[SeriesName, Look]:
    """Tell models apart by colour and the rest by shape; a single model's rest by both.

    `order` is the place of each model, by which it looks alike in all figures.
    """
    names = list(names)
    variants = dict.fromkeys(variant for _, variant in names)
    places = {variant: place for place, variant in enumerate(variants)}
    if len(places) == 1:
        return {name: Look(colour=order[name[0]], shape=order[name[0]]) for name in names}
    single = len({model for model, _ in names}) == 1
    return {
        (model, variant): Look(
            colour=places[variant] if single else order[model], shape=places[variant]
        )
        for model, variant in names
    }


def keys_of(looks: Mapping[SeriesName, Look]) -> tuple[Key, ...]:
    """Name series by what differs between them: model, setting, or both."""
    models, variants = ({name[place] for name in looks} for place in (0, 1))

    def text(model: str, variant: str) -> str:
        if len(variants) == 1:
            return model
        return variant if len(models) == 1 else f"{model}, {variant}"

    return tuple(
        Key(text=text(*name), colour=look.colour, shape=look.shape) for name, look in looks.items()
    )
