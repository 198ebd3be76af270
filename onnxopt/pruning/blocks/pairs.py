"""Sees what blocks read and what they should make, for all blocks in one pass over the samples.

What a block should make is that of the model which nothing was taken from yet; what it reads is
that of the model as it is by now, so that its map makes up for what was taken out in front of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.samples import Samples
from onnxopt.pruning.blocks.fit import Fit, fit, moments_of, rows_of
from onnxopt.pruning.blocks.plan import Block
from onnxopt.runtime.sessions.session import Feed, open_session, run

Progress = Callable[[str, float | None], None]
_BYTES = 8
"""Of the moments of a pair of channels: two float32 matrices."""


def fit_blocks(
    teacher: ir.Model,
    student: ir.Model,
    blocks: Sequence[Block],
    samples: Samples,
    *,
    max_memory: int = 1 << 29,
    progress: Progress | None = None,
) -> dict[str, Fit]:
    """Return the maps of blocks by name, those whose exit has not the shape of its entry left out.

    A pass over the samples takes as many blocks as have room for their moments in `max_memory`
    bytes, two sets of them each.
    """
    found: dict[str, Fit] = {}
    left = list(blocks)
    while left:
        part = [left.pop(0)]
        size = 2 * _BYTES * part[0].channels ** 2
        while left and size + 2 * _BYTES * left[0].channels ** 2 <= max_memory:
            size += 2 * _BYTES * left[0].channels ** 2
            part.append(left.pop(0))
        found.update(_fit(teacher, student, part, samples, progress))
    return found


def _fit(
    teacher: ir.Model,
    student: ir.Model,
    blocks: Sequence[Block],
    samples: Samples,
    progress: Progress | None,
) -> dict[str, Fit]:
    sets = [{block.name: moments_of(block.channels) for block in blocks} for _ in range(2)]
    good = {block.name: block for block in blocks}
    entered, left = [block.entry for block in blocks], [block.exit for block in blocks]
    same = teacher is student
    entries = Exposed(student, [*entered, *left] if same else entered)
    exits = entries if same else Exposed(teacher, left)
    for number, feed in enumerate(samples.all()):
        made = entries(feed)
        wanted = made if same else exits(feed)
        for block in list(good.values()):
            entry, exit_ = made[block.entry], wanted[block.exit]
            if entry.shape != exit_.shape or not (_finite(entry) and _finite(exit_)):
                del good[block.name]
                continue
            part = sets[samples.is_held(number)][block.name]
            part.see(rows_of(exit_, block), rows_of(entry, block))
        if progress is not None:
            progress("looking at blocks", (number + 1) / samples.count)
    for moments in (moments for part in sets for moments in part.values()):
        moments.settle()
    return {name: fit(block, sets[0][name], sets[1][name]) for name, block in good.items()}


def _finite(array: Array) -> bool:
    return bool(np.isfinite(array).all())


class Exposed:
    """Runs a model up to some of its tensors; inputs and outputs may be among them."""

    def __init__(self, model: ir.Model, names: Iterable[str]) -> None:
        wanted = dict.fromkeys(names)
        inputs = [value.name or "" for value in model.graph.inputs]
        self._given = [name for name in wanted if name in inputs]
        self._made = [name for name in wanted if name not in inputs]
        self._session: Any = None
        if self._made:
            graph = ir.convenience.extract(model.graph, inputs, self._made)
            part = ir.Model(graph, ir_version=model.ir_version)
            part.opset_imports.update(model.opset_imports)
            self._session = open_session(io.to_proto(part).SerializeToString(), arena=False)
            self._read = {put.name for put in self._session.get_inputs()}

    def __call__(self, feed: Feed) -> dict[str, Array]:
        """Return the tensors of one sample by name."""
        found = {name: np.asarray(feed[name]) for name in self._given}
        if self._session is not None:
            known = {name: array for name, array in feed.items() if name in self._read}
            found.update(zip(self._made, run(self._session, known, self._made), strict=True))
        return found
