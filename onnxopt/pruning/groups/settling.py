"""From labels to groups: classes of labels, made such that tensors stay rectangular.

Where labels differ along two axes (heads and their width, the two axes of a channel shuffle), only
one can shrink: the longer, unless what an operator mixes has decided already. The others are tied.

Two units are in one group if they lie in the same tensors and constants. So every axis is made of
whole groups, and none is ever empty as long as a unit of each group is left.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.groups.units import Units

STAYS = -1


def settled(walk: Units) -> Array:
    """Return the class of each label, `STAYS` where it cannot go: [labels].

    Ties what has to be tied for tensors to stay rectangular, and lets stay what then meets tensors
    that cannot shrink.
    """
    arrays = _arrays(walk)
    while True:
        classes = classes_of(walk)
        if _straighten(walk, arrays, classes):
            continue
        if _meet(walk, classes):
            continue
        return classes


def classes_of(walk: Units) -> Array:
    """Return the class of each label, `STAYS` where it cannot go: [labels]."""
    classes, frozen = walk.labels.classes()
    return np.where(frozen[classes], STAYS, classes)


def _arrays(walk: Units) -> list[Array]:
    every = (*walk.tensors.values(), *(cut.labels for cut in walk.cuts))
    return list({id(labels): labels for labels in every if labels.any()}.values())


def lasting(found: Array) -> list[int]:
    """Return the axes, from the front, along which classes differ."""
    return [
        axis
        for axis, size in enumerate(found.shape)
        if size > 1 and (found != found.take([0], axis)).any()
    ]


def _straighten(walk: Units, arrays: Iterable[Array], classes: Array) -> bool:
    """Tie what differs along more than one axis; tell whether there was any.

    Of arrays that share labels one is seen to at a time.
    """
    seen = np.zeros(walk.labels.count + 1, bool)
    done = False
    for labels in arrays:
        found = classes[labels]
        if labels.ndim < 2 or (found == STAYS).all():
            continue
        axes = lasting(found)
        if len(axes) < 2:
            continue
        if not seen[found].any():
            longest = max(axes, key=lambda axis: found.shape[axis])
            for axis in axes:
                if axis != longest:
                    walk.labels.tie(labels, labels.take([0], axis))
        seen[found[found != STAYS]] = True
        done = True
    return done


def _meet(walk: Units, classes: Array) -> bool:
    """Let stay what shrinks along an axis along which something it meets does not."""
    done = False
    for reason, sizes in walk.meetings:
        found = classes[reason.labels]
        if (found == STAYS).all():
            continue
        if any(sizes[axis] != 1 for axis in lasting(found)):
            walk.reasons.append(reason)
            walk.labels.freeze(reason.labels[found != STAYS])
            done = True
    return done


def partitioned(classes: Array, arrays: Iterable[Array]) -> Array:
    """Return the group of each class, [classes], by the arrays of labels that it is in."""
    group = np.zeros(int(classes.max(initial=0)) + 1, np.int64)
    count = 1
    for labels in arrays:
        found = np.unique(classes[labels])
        found = found[found != STAYS]
        old, new = np.unique(group[found], return_inverse=True)
        group[found] = count + new
        count += len(old)
    return group
