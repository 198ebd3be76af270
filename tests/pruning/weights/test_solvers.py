import numpy as np
import pytest

from onnxopt.prune_config import SOLVERS as NAMES
from onnxopt.pruning.weights.refit import noise, refit
from onnxopt.pruning.weights.solvers.problem import Multiplied, Streamed
from onnxopt.pruning.weights.solvers.solver import SOLVERS, Clipped, Decaying, Descent, Momentum
from onnxopt.pruning.weights.solvers.stepping import refit_by_steps
from tests.pruning.weights.drawn import flat, inputs, moments, rows

COLUMNS, RIDGE = 24, 0.01
GAP = 1.05
"""The error of every solver is within 5 % of the closed form's."""


def kept():
    stays = np.random.default_rng(3).random(COLUMNS) < 0.6
    stays[0] = True
    return stays


@pytest.fixture(scope="module")
def task():
    x, q = inputs(0, COLUMNS, samples=64, off=0.2)
    weight, seen = rows(0, 5, COLUMNS), moments(x, q)
    exact = refit(weight, kept(), seen, ridge=RIDGE)
    energy = np.square(flat(x)[0] @ weight.T).mean(axis=0)

    def error(found):
        return noise(found.rows, found.shift, weight, seen, energy).sum()

    return x, q, weight, seen, error, error(exact)


def multiplied(weight, seen):
    gram, cross = (part[0].astype(float) for part in seen.centred())
    return Multiplied(
        times=lambda rows: rows @ gram,
        wanted=weight @ cross,
        diagonal=np.diagonal(gram),
        mean=seen.mean[0],
        seen=seen.seen[0],
    )


def streamed(weight, x, q, size=64):
    ours, theirs = flat(x)[0], flat(q)[0]

    def batches():
        for start in range(0, len(ours), size):
            yield ours[start : start + size], theirs[start : start + size]

    return Streamed(weight, batches)


def test_every_solver_has_its_name():
    assert {"exact", *SOLVERS} == set(NAMES)


@pytest.mark.parametrize("name", [*SOLVERS])
def test_each_solver_comes_near_the_closed_form_by_products(task, name):
    _, _, weight, seen, error, least = task
    found = refit_by_steps(weight, kept(), multiplied(weight, seen), SOLVERS[name](), ridge=RIDGE)
    assert error(found) <= GAP * least
    assert found.steps < 3000
    assert np.all(found.rows[:, ~kept()] == 0)


@pytest.mark.parametrize("name", [*SOLVERS])
def test_each_solver_comes_near_the_closed_form_by_batches(task, name):
    x, q, weight, _, error, least = task
    found = refit_by_steps(weight, kept(), streamed(weight, x, q), SOLVERS[name](), ridge=RIDGE)
    assert error(found) <= GAP * least


def test_wrappers_compose(task):
    x, q, weight, seen, error, least = task
    solver = Decaying(solver=Clipped(solver=Momentum(), most=0.5), after=500)
    for problem in (multiplied(weight, seen), streamed(weight, x, q)):
        found = refit_by_steps(weight, kept(), problem, solver, ridge=RIDGE)
        assert error(found) <= GAP * least


def test_steps_pull_as_the_closed_form_does(task):
    _, _, weight, seen, _, _ = task
    problem = multiplied(weight, seen)
    for towards in (None, 0 * weight):
        exact = refit(weight, kept(), seen, ridge=0.3, towards=towards)
        found = refit_by_steps(
            weight, kept(), problem, Momentum(), ridge=0.3, towards=towards, tolerance=1e-9
        )
        # The ridge of steps is that of the problem's own diagonal.
        np.testing.assert_allclose(found.rows, exact.rows, atol=1e-3)
        np.testing.assert_allclose(found.shift, exact.shift, atol=1e-3)


def test_what_gains_nothing_ends_early(task):
    _, _, weight, seen, _, _ = task
    found = refit_by_steps(weight, kept(), multiplied(weight, seen), Momentum(), tolerance=0.5)
    assert found.steps <= 200


def test_decay_shortens_and_clipping_bounds_steps():
    weights, gradient = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    decaying = Decaying(solver=Descent(rate=1.0), after=1.0)
    decaying.start(weights.shape)
    np.testing.assert_allclose(decaying.step(weights, gradient), -gradient)
    np.testing.assert_allclose(decaying.step(weights, gradient), -gradient / 2)
    clipped = Clipped(solver=Descent(rate=1.0), most=1.0)
    clipped.start(weights.shape)
    np.testing.assert_allclose(clipped.step(weights, gradient), -gradient / 5)
