"""Refits on the moments of the model as it was given: quicker than layer by layer, and less exact.

What the layers in front lose is not made up for. That is good enough to see how much of a cut
arrives at the outputs, and to compare choices before one of them is made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.pruning.groups.cutting import mask
from onnxopt.pruning.plan import Groups, Keep
from onnxopt.pruning.refitting import kept_columns
from onnxopt.pruning.seeing import nodes_of
from onnxopt.pruning.weights.refit import refit
from onnxopt.sweep import matrix
from onnxopt.sweep.moments import Moments


class Dense:
    """Moments of layers by name, in a folder; only one of them is in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.paths: dict[str, Path] = {}

    def put(self, name: str, moments: Moments) -> None:
        """Keep the moments of a layer of one model, which is both teacher and student."""
        path = self.folder / f"{len(self.paths)}.npz"
        np.savez(
            path,
            gram=moments.gram,
            mean=moments.mean,
            power=moments.power,
            samples=np.array(moments.samples),
        )
        self.paths[name] = path

    def get(self, name: str) -> Moments | None:
        """Return the moments of a layer, if they were kept."""
        path = self.paths.get(name)
        if path is None:
            return None
        with np.load(path, allow_pickle=False) as held:
            gram, mean, power = (held[part] for part in ("gram", "mean", "power"))
            samples = int(held["samples"])
        return Moments(gram=gram, cross=gram, mean=mean, seen=mean, power=power, samples=samples)

    def soft(
        self, model: ir.Model, groups: Groups, keep: Keep, ridge: Callable[[str], float]
    ) -> ir.Model:
        """Return a copy of a model without some units, its layers refitted where moments are known.

        `model` is prepared as by `refitting.prepare`; `ridge` tells that of a layer.
        """
        student = model.clone()
        mask(student, groups, keep)
        editor, opset = Editor(student), student.opset_imports.get("", 0)
        nodes, before = nodes_of(student), nodes_of(model)
        for name, kept in kept_columns(groups, keep, model).items():
            moments = self.get(name)
            if moments is None:
                continue
            rows = matrix.rows_of(before[name], opset)
            found = refit(rows, kept, moments, ridge=ridge(name))
            node = nodes[name]
            edge = matrix.biased(editor, node)
            matrix.set_rows(editor, node, found.rows)
            matrix.add_to_bias(editor, student, edge, found.shift)
        return student
