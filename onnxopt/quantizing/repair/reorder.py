"""Channels in another order, so that kernels that add in 16 bits meet no two heavy weights.

The rewrite is exact but for the order of float sums, and costs nothing at run time. On
EfficientNet-Lite0, with inputs up to 255 and each row's widest scale, 42,371 pairs of weights can
overflow before and 24,571 after; in the layers behind depthwise ones 8,061 and 11. The squared
error of the allowed integers at their best scales is 1.49 times that of free ones before, and 1.11
times after. In the feed-forward layers of MiniLM-L6, where streams end at the heads, all of them
less: 1.41 and 1.34 over the whole model.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.quantizing.repair.chains import rewrite
from onnxopt.quantizing.repair.streams import Slot, Stream, streams
from onnxopt.quantizing.weights.permute import clipped, meeting_losses, order_of

RULE = "reorder"
_WORTH = 0.95
"""Of what was lost, at most so much may be left for an order to be taken."""


def reordered(model: ir.Model) -> Counter[str]:
    """Put the channels of a model in the order in which least overflows, in place.

    Counts the streams of channels and the layers that read them. The shapes of tensors should be
    known. What is known of single channels of a tensor, ranges or Gram matrices, no longer holds.
    """
    done: Counter[str] = Counter()
    editor = Editor(model)
    with editor.on_behalf_of(RULE):
        for stream in streams(model):
            order = best_order(stream)
            if order is not None:
                for slot in stream.slots:
                    _reorder(editor, slot, order)
                done.update({f"{RULE}: streams": 1, f"{RULE}: layers": len(stream.readers)})
    return done


def best_order(stream: Stream) -> Array | None:
    """Return an order in which the layers that read a stream lose less, or None.

    Each layer counts by what it loses of its own weights.
    """
    weights = [_rows(slot) for slot in stream.readers]
    weights = [weight / norm for weight in weights if (norm := float(np.linalg.norm(weight)))]
    lost = sum(map(clipped, weights))
    if not lost:
        return None
    losses = np.zeros((stream.size, stream.size))
    for weight in weights:
        losses += meeting_losses(weight)
    order = order_of(losses)
    left = sum(clipped(weight[:, order]) for weight in weights)
    return order if left < _WORTH * lost else None


def _rows(slot: Slot) -> Array:
    """Return the weight of a reader: [rows, channels, positions]."""
    weight = _constant(slot)
    assert slot.rows is not None
    moved = np.moveaxis(weight, (slot.rows, slot.axis), (0, 1))
    return moved.reshape(*moved.shape[:2], int(np.prod(moved.shape[2:])))


def _constant(slot: Slot) -> Array:
    array = facts.constant(slot.node.inputs[slot.place])
    assert array is not None
    return array


def _reorder(editor: Editor, slot: Slot, order: Array) -> None:
    rewrite(editor, slot.node, slot.place, np.take(_constant(slot), order, axis=slot.axis))
