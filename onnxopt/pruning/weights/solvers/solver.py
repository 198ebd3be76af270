"""Gradient steps by the rules that the field has names for, each against one interface.

Rates are shares of what they are measured in: of the steepest curvature's own step 1 / L for
`Descent` and `Momentum`, which is taken as 1 here because problems are scaled so, and of one unit
of a scaled weight for those that divide by the size of the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from onnxopt.arrays import Array

_TINY = 1e-12


class Solver(Protocol):
    """Moves weights against their gradient; remembers what its rule needs between steps."""

    def start(self, shape: tuple[int, ...]) -> None:
        """Forget everything; the weights to come have this shape."""
        ...

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return the weights after one step; those given stay as they are."""
        ...


@dataclass(kw_only=True)
class Descent:
    """w - ρ g: gradient descent (Cauchy 1847)."""

    rate: float = 1.0

    def start(self, shape: tuple[int, ...]) -> None:
        """Remember nothing."""

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return w - ρ g."""
        return np.asarray(weights - self.rate * gradient)


@dataclass(kw_only=True)
class Momentum:
    """v = β v - ρ g, w + v: Polyak's heavy ball (1964); in the end it goes ρ / (1 - β) a step."""

    rate: float = 0.3
    decay: float = 0.9
    _speed: Array = field(default_factory=lambda: np.zeros(()))

    def start(self, shape: tuple[int, ...]) -> None:
        """Stand still."""
        self._speed = np.zeros(shape)

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return w + v."""
        self._speed = self.decay * self._speed - self.rate * gradient
        return np.asarray(weights + self._speed)


@dataclass(kw_only=True)
class AdaGrad:
    """s += g², w - ρ g / √s: Duchi, Hazan, Singer (JMLR 2011)."""

    rate: float = 0.1
    _squares: Array = field(default_factory=lambda: np.zeros(()))

    def start(self, shape: tuple[int, ...]) -> None:
        """Begin with s = 0."""
        self._squares = np.zeros(shape)

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return w - ρ g / √s."""
        self._squares = self._squares + gradient * gradient
        return np.asarray(weights - self.rate * gradient / (np.sqrt(self._squares) + _TINY))


@dataclass(kw_only=True)
class RMSProp:
    """s = β s + (1 - β) g², w - ρ g / √s: Tieleman and Hinton (2012)."""

    rate: float = 0.03
    decay: float = 0.9
    _squares: Array = field(default_factory=lambda: np.zeros(()))

    def start(self, shape: tuple[int, ...]) -> None:
        """Begin with s = 0."""
        self._squares = np.zeros(shape)

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return w - ρ g / √s."""
        self._squares = self.decay * self._squares + (1 - self.decay) * gradient * gradient
        return np.asarray(weights - self.rate * gradient / (np.sqrt(self._squares) + _TINY))


@dataclass(kw_only=True)
class Adam:
    """m = β₁ m + (1 - β₁) g, s = β₂ s + (1 - β₂) g², w - ρ m̂ / √ŝ: Kingma and Ba (ICLR 2015)."""

    rate: float = 0.03
    decay: float = 0.9
    decay_of_squares: float = 0.999
    _mean: Array = field(default_factory=lambda: np.zeros(()))
    _squares: Array = field(default_factory=lambda: np.zeros(()))
    _steps: int = 0

    def start(self, shape: tuple[int, ...]) -> None:
        """Begin with m = s = 0."""
        self._mean, self._squares, self._steps = np.zeros(shape), np.zeros(shape), 0

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return w - ρ m̂ / √ŝ, both freed of their start at 0."""
        self._steps += 1
        self._mean = self.decay * self._mean + (1 - self.decay) * gradient
        fade = self.decay_of_squares
        self._squares = fade * self._squares + (1 - fade) * gradient * gradient
        mean = self._mean / (1 - self.decay**self._steps)
        size = np.sqrt(self._squares / (1 - fade**self._steps))
        return np.asarray(weights - self.rate * mean / (size + _TINY))


@dataclass(kw_only=True)
class Decaying:
    """Any solver, its steps shortened by 1 / (1 + n / `after`): Robbins and Monro (1951)."""

    solver: Solver
    after: float = 100.0
    _steps: int = 0

    def start(self, shape: tuple[int, ...]) -> None:
        """Begin with whole steps."""
        self._steps = 0
        self.solver.start(shape)

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return the weights a part of the way to where the solver wants them."""
        share = 1.0 / (1.0 + self._steps / self.after)
        self._steps += 1
        return np.asarray(weights + share * (self.solver.step(weights, gradient) - weights))


@dataclass(kw_only=True)
class Clipped:
    """Any solver, each row's gradient no longer than `most`: Pascanu et al. (ICML 2013)."""

    solver: Solver
    most: float = 1.0

    def start(self, shape: tuple[int, ...]) -> None:
        """Start the solver."""
        self.solver.start(shape)

    def step(self, weights: Array, gradient: Array) -> Array:
        """Return the solver's step for the shortened gradient."""
        norm = np.linalg.norm(gradient, axis=-1, keepdims=True)
        return self.solver.step(weights, gradient * np.minimum(1.0, self.most / (norm + _TINY)))


SOLVERS: dict[str, Callable[[], Solver]] = {
    "descent": Descent,
    "momentum": lambda: Decaying(solver=Momentum(), after=200),
    "adagrad": AdaGrad,
    "rmsprop": lambda: Decaying(solver=RMSProp()),
    "adam": lambda: Decaying(solver=Adam()),
}
"""By the names of `config.SOLVERS`; `exact` is no solver but `weights.refit`. Steps
decay where they are long or of one size however small the gradient; `AdaGrad`'s do so by itself."""
