"""A model on its way from front to back: one segment is run on all samples, then the next."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import EXACT
from onnxopt.runtime.sessions.session import open_session, run
from onnxopt.sweep.segments import Cuts, cut
from onnxopt.sweep.shelf import Shelf

Feed = Mapping[str, Any]


class Line:
    """A model that stops in front of some nodes; `who` tells its tensors from another model's.

    What segments compute lies on the shelf until nobody needs it. Nodes may be changed as long as
    their segment has not run.
    """

    def __init__(self, model: ir.Model, stops: Collection[str], shelf: Shelf, who: str) -> None:
        self.model = model
        self.shelf = shelf
        self.who = who
        self.nodes = {
            node.name or "": node for graph in facts.graphs_within(model.graph) for node in graph
        }
        self.cuts: Cuts = cut(model.graph, stops)

    def take(self, sample: int, feed: Feed) -> None:
        """Keep the inputs of one sample."""
        for name, array in feed.items():
            self.shelf.put(sample, self.key(name), np.asarray(array))

    def key(self, name: str) -> str:
        """Return what a tensor is called on the shelf."""
        return f"{self.who}:{name}"

    def get(self, sample: int, name: str) -> Array:
        """Return what a tensor held in one sample."""
        return self.shelf.get(sample, self.key(name))

    def advance(self, stage: int, samples: int) -> None:
        """Run one segment on all samples."""
        segment = self.cuts.segments[stage]
        if not segment.makes:
            return
        graph = ir.convenience.extract(self.model.graph, segment.reads, segment.makes)
        part = ir.Model(graph, ir_version=self.model.ir_version)
        part.opset_imports.update(self.model.opset_imports)
        session = open_session(io.to_proto(part).SerializeToString(), config=EXACT, arena=False)
        wanted = {put.name for put in session.get_inputs()}
        for sample in range(samples):
            feed = {name: self.get(sample, name) for name in segment.reads if name in wanted}
            for name, array in zip(segment.makes, run(session, feed, segment.makes), strict=True):
                self.shelf.put(sample, self.key(name), array)

    def forget(self, stage: int, samples: int) -> None:
        """Let go of what nobody needs once a segment has run."""
        for name in self.cuts.segments[stage].last_read:
            for sample in range(samples):
                self.shelf.drop(sample, self.key(name))
