"""A convolution and its gradients, as products of matrices over the places of its kernel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from onnxopt.arrays import Array
from onnxopt.sweep.patches import Window


class Convolution:
    """A convolution of x [N, C, *spatial] with weight [M, C / groups, *kernel]."""

    def __init__(self, x: Array, weight: Array, window: Window) -> None:
        self.x, self.weight, self.window = x, weight, window
        rank, groups = len(window.kernel), window.groups
        before, behind = window.pads[:rank], window.pads[rank:]
        self.inside = tuple(
            slice(first, first + size) for first, size in zip(before, x.shape[2:], strict=True)
        )
        if any(window.pads):
            x = np.pad(x, [(0, 0), (0, 0), *zip(before, behind, strict=True)])
        self.padded = x
        spans = zip(x.shape[2:], window.kernel, window.dilations, window.strides, strict=True)
        self.size = tuple((length - (k - 1) * d - 1) // s + 1 for length, k, d, s in spans)
        self.lone = weight.shape[0] == groups == x.shape[1]
        if not self.lone:
            shape = (groups, len(weight) // groups, weight.shape[1], math.prod(window.kernel))
            # Columns by place in the kernel, then by channel.
            turned = weight.reshape(shape).transpose(0, 1, 3, 2)
            self.rows = np.ascontiguousarray(turned).reshape(groups, shape[1], -1)
            self.columns = self._columns()

    def made(self) -> Array:
        """Return [N, M, *size]."""
        shape = (len(self.x), len(self.weight), *self.size)
        if not self.lone:
            return np.asarray(np.matmul(self.rows, self.columns)).reshape(shape)
        made = np.zeros(shape, self.x.dtype)
        for place, part in self._places():
            made += self.padded[part] * self._scale(place)
        return made

    def pulled(self, gradient: Array) -> tuple[Array, Array]:
        """Return the gradients with respect to x and to the weight, of that of what was made."""
        below = np.zeros_like(self.padded)
        weight = np.zeros_like(self.weight)
        if self.lone:
            axes = (0, *range(2, gradient.ndim))
            for place, part in self._places():
                np.moveaxis(weight[:, 0], 0, -1)[place] = (self.padded[part] * gradient).sum(
                    axis=axes
                )
                below[part] += gradient * self._scale(place)
            return below[(slice(None), slice(None), *self.inside)], weight
        groups = self.window.groups
        count = len(gradient)
        split = gradient.reshape(count, groups, len(self.weight) // groups, -1)
        rows = np.matmul(split, self.columns.swapaxes(2, 3)).sum(axis=0)
        channels = self.weight.shape[1]
        kept = rows.reshape(groups, len(self.weight) // groups, -1, channels)
        weight = kept.transpose(0, 1, 3, 2).reshape(self.weight.shape)
        spread = np.matmul(self.rows.swapaxes(1, 2), split)
        spread = spread.reshape(count, groups, -1, channels, *self.size)
        for number, (_, part) in enumerate(self._places()):
            below[part] += spread[:, :, number].reshape(below[part].shape)
        return below[(slice(None), slice(None), *self.inside)], weight

    def _columns(self) -> Array:
        """Return what the weight is multiplied by: [N, groups, places x channels, positions]."""
        count, groups = len(self.x), self.window.groups
        parts = [
            self.padded[part].reshape(count, groups, -1, math.prod(self.size))
            for _, part in self._places()
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _scale(self, place: tuple[int, ...]) -> Array:
        scale: Array = np.moveaxis(self.weight[:, 0], 0, -1)[place]
        return scale.reshape(1, -1, *(1,) * len(self.size))

    def _places(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield the places of the kernel, and what of the padded input each one meets."""
        for place in itertools.product(*map(range, self.window.kernel)):
            where = zip(place, self.window.dilations, self.window.strides, self.size, strict=True)
            spans = (slice(k * d, k * d + s * (size - 1) + 1, s) for k, d, s, size in where)
            yield place, (slice(None), slice(None), *spans)
