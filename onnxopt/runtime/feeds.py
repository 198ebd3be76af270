"""Makes inputs for a model: from the user's samples, or invented so that the model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxopt.errors import DataError
from onnxopt.runtime.data import check_feed, load_data
from onnxopt.runtime.inputs import Input, model_inputs
from onnxopt.runtime.roles import Role, find_role
from onnxopt.runtime.sizes import Purpose, Sizes, candidates, with_batch
from onnxopt.runtime.values import draw

if TYPE_CHECKING:
    from onnxopt.graph._onnx_ir import ir

__all__ = ["check_feed", "load_data", "make_feeds", "model_inputs"]

_HINT = "give samples with --data PATH, or sizes with --fix DIM=VALUE"
_VARIANTS = 4


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
    invented feeds, or to all samples of `data`. Raises `DataError` naming the node that refused.
    """
    inputs = model_inputs(model)
    if data is not None:
        feeds = load_data(data, inputs)
        return [feed for _, feed in zip(range(count or 1 << 62), feeds, strict=False)]
    inventor = _Inventor(model, inputs, runs, seed, dict(fix or {}), purpose)
    first, choice, attempt = inventor.first()
    turns = range(1, count or 3)
    return [first, *(inventor.another(turn, choice, attempt) for turn in turns)]


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
        feed: dict[str, Any] = {}
        for number, spec in enumerate(self.inputs):
            rng = np.random.default_rng([self.seed, turn, number])
            shape = sizes.shapes[spec.name]
            feed[spec.name] = draw(
                spec, shape, self.roles[spec.name], rng, variant=variant, attempt=attempt
            )
        return feed

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
