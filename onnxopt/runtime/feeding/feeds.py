"""Makes inputs for a model: from the user's samples, or invented so that the model runs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxopt.errors import DataError
from onnxopt.runtime.feeding.data import check_feed, load_data
from onnxopt.runtime.feeding.inputs import Input, model_inputs
from onnxopt.runtime.feeding.roles import Role, find_role
from onnxopt.runtime.feeding.sizes import (
    Purpose,
    Sizes,
    candidates,
    kinds_of,
    resolve_fix,
    with_batch,
)
from onnxopt.runtime.feeding.values import Turn, draw

if TYPE_CHECKING:
    from onnxopt.graph._onnx_ir import ir

__all__ = ["check_feed", "checked", "load_data", "make_batch", "make_feeds", "model_inputs"]

_HINT = "give samples with --data PATH, or sizes with --fix DIM=VALUE"
_VARIANTS = 4
MOST_SAMPLES = 100
"""Of the user's samples, so many are run: enough to compare two models by."""


def make_feeds(
    model: ir.Model,
    *,
    runs: Callable[[dict[str, Any]], object] | None = None,
    seed: int = 0,
    count: int | None = None,
    fix: Mapping[str, int] | None = None,
    data: Path | str | None = None,
    purpose: Purpose = "verify",
) -> list[dict[str, Any]]:
    """Return `count` feeds (input name to array): from `data`, or invented from shapes and uses.

    `runs` runs the model and raises `DataError` where it refuses: of several plausible sizes
    those are kept with which it runs. Without `runs` the first guess is returned untried. The
    first feed has a batch of one; later ones differ in size where the model allows it, and in
    what is drawn. Invented feeds depend on the model and `seed` only. `count` defaults to three
    invented feeds, or to the first hundred samples of `data`. Raises `DataError` naming the node
    that refused.
    """
    inputs = model_inputs(model)
    if data is not None:
        return list(itertools.islice(load_data(data, inputs), count or MOST_SAMPLES))
    inventor = _Inventor(model, inputs, runs, seed, dict(fix or {}), purpose)
    first, choice, attempt = inventor.first()
    turns = range(1, count or 3)
    return [first, *(inventor.another(turn, choice, attempt) for turn in turns)]


def make_batch(
    model: ir.Model,
    batch: int | None = None,
    *,
    runs: Callable[[dict[str, Any]], object] | None = None,
    seed: int = 0,
    fix: Mapping[str, int] | None = None,
    data: Path | str | None = None,
) -> dict[str, Any]:
    """Return one feed to measure with, of `batch` samples where the model leaves that free.

    From `data` as many samples are taken and joined. Raises `DataError` where the model's batch
    is fixed to another size, or `data` holds too few samples.
    """
    inputs = model_inputs(model)
    free = [symbol for symbol, kind in kinds_of(inputs).items() if kind == "batch"]
    if batch is not None and not free and _batch_sizes(inputs) != {batch}:
        told = ", ".join(f"{spec.name} {spec.describe()}" for spec in inputs)
        raise DataError(f"the model does not take a batch of {batch}: {told}", "leave out --batch")
    _check_one_batch(free, batch, resolve_fix(inputs, fix or {}))
    if data is None:
        sizes = {**(dict.fromkeys(free, batch) if batch else {}), **(fix or {})}
        made = make_feeds(model, runs=runs, seed=seed, count=1, fix=sizes, purpose="measure")
        return made[0]
    wanted = batch or 1
    feeds = list(itertools.islice(load_data(data, inputs), wanted))
    if len(feeds) < wanted:
        raise DataError(f"{data} holds {len(feeds)} samples, {wanted} are wanted", "give more")
    return feeds[0] if not free or wanted == 1 else _join(feeds, inputs, set(free))


def _check_one_batch(free: Sequence[str], batch: int | None, fixed: Mapping[str, int]) -> None:
    for name in free:
        if batch is not None and fixed.get(name, batch) != batch:
            raise DataError(
                f"dimension {name!r} is {fixed[name]} by --fix, and the batch is {batch}",
                "leave one of them out",
            )


def _batch_sizes(inputs: Sequence[Input]) -> set[int]:
    firsts = (spec.dims[0] for spec in inputs if spec.dims and len(spec.dims) > 1)
    return {first for first in firsts if isinstance(first, int)}


def _join(
    feeds: Sequence[dict[str, Any]], inputs: Sequence[Input], free: set[str]
) -> dict[str, Any]:
    """Join samples along the axis of each input that is the free batch."""
    joined = dict(feeds[0])
    for spec in inputs:
        axes = [axis for axis, dim in enumerate(spec.dims or ()) if dim in free]
        if not axes or spec.name not in joined:
            continue
        try:
            joined[spec.name] = np.concatenate([feed[spec.name] for feed in feeds], axis=axes[0])
        except ValueError as error:
            raise DataError(
                f"the samples of input {spec.name!r} differ in shape: {error}", "leave out --batch"
            ) from error
    return joined


def checked(feeds: Sequence[Mapping[str, Any]], model: ir.Model) -> list[dict[str, Any]]:
    """Return feeds as the model's inputs want them; raise `DataError` where one does not fit."""
    inputs = model_inputs(model)
    return [check_feed(feed, inputs, f"sample {i}") for i, feed in enumerate(feeds)]


class _Inventor:
    """Invents feeds for one model, and remembers which sizes it ran with."""

    def __init__(
        self,
        model: ir.Model,
        inputs: Sequence[Input],
        runs: Callable[[dict[str, Any]], object] | None,
        seed: int,
        fix: Mapping[str, int],
        purpose: Purpose,
    ) -> None:
        self.inputs = [spec for spec in inputs if spec.required]
        self.runs = runs
        self.seed = seed
        self.fix = fix
        self.choices = list(candidates(self.inputs, fix, purpose))
        values = {value.name: value for value in model.graph.inputs}
        self.roles: dict[str, Role] = {
            spec.name: find_role(model, values[spec.name]) for spec in self.inputs
        }

    def first(self) -> tuple[dict[str, Any], Sizes, int]:
        """Return the first feed that runs, its sizes and which attempt at values it was."""
        refusal: DataError | None = None
        for variant in range(_VARIANTS):
            for attempt, choice in enumerate(self._worth_trying(variant)):
                feed = self._draw(choice, 0, variant, attempt)
                try:
                    self._try(feed)
                except DataError as error:
                    refusal = refusal or _refused(feed, error)
                    continue
                return feed, choice, attempt
        raise refusal or DataError("the model has inputs of no size", _HINT)

    def _worth_trying(self, variant: int) -> list[Sizes]:
        """Return the choices of sizes; for a model without free ones, one for every guess."""
        if len(self.choices) >= _VARIANTS:
            return self.choices if variant < 2 else []
        return [self.choices[0]] * _VARIANTS

    def another(self, turn: int, choice: Sizes, attempt: int) -> dict[str, Any]:
        """Return a feed unlike the first: other sizes and values where the model takes them."""
        larger = with_batch(choice, self.inputs, self.fix, 2)
        position = self.choices.index(choice)
        others = [self.choices[(position + turn + step) % len(self.choices)] for step in range(6)]
        near, far = others[:3], others[3:]
        sizes = [larger, *near] if turn % 2 else [*near, larger]
        tries = [(size, turn, attempt) for size in [*sizes, choice, *far]]
        tries += [(larger, 0, attempt), (choice, 0, attempt)]
        for size, variant, guess in tries:
            feed = self._draw(size, turn, variant, guess)
            try:
                self._try(feed)
            except DataError:
                continue
            return feed
        return self._draw(choice, 0, 0, attempt)

    def _draw(self, sizes: Sizes, turn: int, variant: int, attempt: int) -> dict[str, Any]:
        how = Turn(sizes=sizes, variant=variant, attempt=attempt)
        return {
            spec.name: draw(
                spec, self.roles[spec.name], how, np.random.default_rng([self.seed, turn, number])
            )
            for number, spec in enumerate(self.inputs)
        }

    def _try(self, feed: dict[str, Any]) -> None:
        if self.runs is not None:
            self.runs(feed)


def _refused(feed: Mapping[str, Any], error: DataError) -> DataError:
    told = ", ".join(f"{name} {_describe(value)}" for name, value in feed.items())
    return DataError(f"no inputs were found that the model runs with ({told}): {error}", _HINT)


def _describe(value: Any) -> str:
    if isinstance(value, list):
        return f"sequence of {_describe(value[0])}" if value else "empty sequence"
    array = np.asarray(value)
    return f"{array.dtype}{list(array.shape)}".replace("object", "string")
