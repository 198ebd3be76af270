"""An order of input channels in which heavy weights of one sign are no neighbours.

Where two neighbours overflow 16 bits they have to be shrunk (see `pairs.py`), by

    e² / (A_a² / i_a + A_b² / i_b),   e = A_a |q_a| + A_b |q_b| - 32767,

in squared error, i being the importance of the inputs. The order of a layer's input channels is
free where the layers in front can write them in it. To choose who meets whom is a matching of
least weight. scipy matches two sides: starting from any pairs, one of each is put on the left and
the other on the right, by chance, and the best match of the two sides is never worse than what was
there. Some rounds of that come close to the best of all.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array

_MOST = 2**15 - 1
_LARGEST = 127
_WORTH, _PATIENCE = 1e-3, 9
"""Ends when so many rounds have gained less than this share of all that was lost."""


def pairing_order(
    rows: Array,
    bounds: Array | None = None,
    importance: Array | None = None,
    *,
    scales: Array | None = None,
    rounds: int = 24,
) -> Array:
    """Return the order of the input channels in which least is lost: int64 [channels].

    `rows` is a weight, [rows, channels] or [rows, channels, positions]; the weights of several
    layers that read the same tensor may follow each other. `bounds` (the largest uint8 integers
    that reach the layer, 255 if not given) and `importance` are [channels]; `scales`, [rows], is
    what covers the largest weight of a row if not given. With positions an odd number of channels
    makes neighbours of other channels at every other position: see `clipped` for what comes of it.
    """
    return order_of(meeting_losses(rows, bounds, importance, scales=scales), rounds=rounds)


def order_of(loss: Array, *, rounds: int = 24) -> Array:
    """Return the order with least `loss`, [channels, channels], of all neighbours: int64."""
    channels = len(loss)
    if channels % 2:
        # Whoever meets nobody loses nothing: it stands last.
        loss = np.pad(loss, ((0, 1), (0, 1)))
    mates = np.arange(len(loss)).reshape(-1, 2)
    if not loss[mates[:, 0], mates[:, 1]].any():
        return np.arange(channels)
    mates = _matched(loss, mates, rounds)
    mates = np.sort(mates, axis=1)
    order = mates[np.lexsort((mates[:, 0], mates[:, 1] == channels))].ravel()
    return order[:channels]


def meeting_losses(
    rows: Array,
    bounds: Array | None = None,
    importance: Array | None = None,
    *,
    scales: Array | None = None,
) -> Array:
    """Return what is lost over all rows if two channels are neighbours: [channels, channels].

    Arguments are those of `pairing_order`. The diagonal means nothing.
    """
    flat, weights = _flat(rows, scales)
    channels = flat.shape[1]
    reach, worth = _reach(channels, bounds), _worth(channels, importance)
    loss = np.zeros((channels, channels))
    for sign in (1, -1):
        products = np.maximum(sign * flat, 0).astype(np.float32) * reach.astype(np.float32)
        heavy = products > _MOST / 2
        # At least one of two that overflow is heavy. Its channel sees to both, and is left out of
        # the row then, so that two heavy ones count once.
        for channel in range(channels):
            rows_of = np.flatnonzero(heavy[:, channel])
            over = products[rows_of]
            over += over[:, channel, None] - _MOST
            np.square(np.maximum(over, 0, out=over), out=over)
            loss[channel] += weights[rows_of] @ over
            products[rows_of, channel] = 0
    give = reach**2 / worth
    return np.asarray((loss + loss.T) / np.maximum(give[:, None] + give, 1e-30))


def clipped(
    rows: Array,
    bounds: Array | None = None,
    importance: Array | None = None,
    *,
    scales: Array | None = None,
) -> float:
    """Return the squared error of shrinking what overflows, channels as they are.

    Arguments are those of `pairing_order`; neighbours are those of the kernel, across positions.
    """
    channels, steps = rows.shape[1], _scales(rows, scales)
    shape = (channels, int(np.prod(rows.shape[2:])))
    walked = rows.reshape(len(rows), *shape).swapaxes(1, 2).reshape(len(rows), -1)
    reach, worth = (
        np.tile(each, shape[1]) for each in (_reach(channels, bounds), _worth(channels, importance))
    )
    pairs = walked.shape[1] // 2 * 2
    products = (_integers(walked, steps) * reach)[:, :pairs]
    give = (reach**2 / worth)[:pairs]
    over = np.maximum(np.abs(products[:, 0::2] + products[:, 1::2]) - _MOST, 0)
    lost = over**2 / np.maximum(give[0::2] + give[1::2], 1e-30)
    return float((lost.sum(axis=1) * steps**2).sum())


def _matched(loss: Array, mates: Array, rounds: int) -> Array:
    from scipy import optimize

    generator = np.random.default_rng(0)
    place = np.arange(len(mates))
    totals = [float(loss[mates[:, 0], mates[:, 1]].sum())]
    for _ in range(rounds):
        side = generator.integers(0, 2, len(mates))
        left, right = mates[place, side], mates[place, 1 - side]
        table = loss[np.ix_(left, right)]
        _, found = optimize.linear_sum_assignment(table)  # type: ignore[attr-defined]  # compiled
        mates = np.stack([left, right[found]], axis=1)
        totals.append(float(table[place, found].sum()))
        before = totals[-_PATIENCE:][0] if len(totals) >= _PATIENCE else np.inf
        if totals[-1] == 0 or before - totals[-1] < _WORTH * totals[0]:
            break
    return mates


def _flat(rows: Array, scales: Array | None) -> tuple[Array, Array]:
    """Return integers [rows · positions, channels], and what their squares weigh."""
    steps = _scales(rows, scales)
    positions = int(np.prod(rows.shape[2:]))
    flat = rows.reshape(*rows.shape[:2], positions).swapaxes(1, 2)
    whole = _integers(flat.reshape(-1, rows.shape[1]), np.repeat(steps, positions))
    return whole, np.repeat(steps**2, positions)


def _integers(rows: Array, steps: Array) -> Array:
    return np.asarray(np.clip(np.rint(rows / steps[:, None]), -_LARGEST, _LARGEST))


def _scales(rows: Array, scales: Array | None) -> Array:
    if scales is None:
        axes = tuple(range(1, rows.ndim))
        scales = np.abs(rows).max(axis=axes, initial=0) / _LARGEST
    return np.asarray(np.where(scales > 0, scales, 1.0), np.float64)


def _reach(channels: int, bounds: Array | None) -> Array:
    return np.full(channels, 255.0) if bounds is None else np.asarray(bounds, np.float64)


def _worth(channels: int, importance: Array | None) -> Array:
    if importance is None:
        return np.ones(channels)
    return np.asarray(importance + max(float(np.mean(importance)), 1e-30) * 1e-6, np.float64)
