from itertools import count

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.benchmarking import alone, contest, table
from onnxopt.benchmarking.child.feeding import Fed
from onnxopt.benchmarking.surroundings import environment

CPU = "CPUExecutionProvider"


@pytest.fixture
def save(tmp_path):
    """Write an MLP (x[batch, 8] to y[batch, 4]) with so many hidden units, and return its path."""

    def write(name, hidden=16, input_name="x"):
        rng = np.random.default_rng(0)
        weights = {"w": (8, hidden), "v": (hidden, 4)}
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", [input_name, "w"], ["h"]),
                helper.make_node("MatMul", ["h", "v"], ["y"]),
            ],
            "graph",
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
            [
                numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), key)
                for key, shape in weights.items()
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write


class Machine:
    """A machine whose sessions differ as real ones do, on a clock that only they move on.

    `faster` is what divides a candidate's times, by its key or path; the standard deviations are
    of logarithms: what a process does to all (`common`) and to one model (`process`), between
    sessions, between runs. `fails` is key to the process from which on it fails, `crashes` to the
    one that it kills. `plans` are the candidates of each process, `seeds` theirs.
    """

    def __init__(self, seed=0, **told):
        self.rng = np.random.default_rng(seed)
        self.faster, self.fails, self.crashes = {}, {}, {}
        self.common, self.process, self.session, self.run, self.burst = 0.04, 0.015, 0.08, 0.02, 0.0
        self.start, self.load, self.run_ms = 0.25, 0.06, 2.0
        self.wall_ns = None
        self.now, self.plans, self.seeds = 0.0, [], []
        vars(self).update(told)

    def perf_counter(self):
        return self.now

    def measure_turns(self, candidates, *, seconds, seed, timeout):
        number = len(self.plans)
        self.plans.append(candidates)
        self.seeds.append(seed)
        begun, longest = self.now, 0.0
        self.now += self.start
        yield {"event": "ready"}
        common = self.rng.normal(0, self.common)
        level = {each.key: common + self.rng.normal(0, self.process) for each in candidates}
        alive = list(candidates)
        for turn in count():
            at = self.now
            playing = [each for each in alive if each.rounds > turn]
            order = [playing[i] for i in self.rng.permutation(len(playing))]
            for each in [*order, *reversed(order)]:
                if number >= self.fails.get(each.key, 1e9):
                    if each in alive:
                        alive.remove(each)
                        yield {"event": "failed", "key": each.key, "message": "stopped"}
                elif number == self.crashes.get(each.key):
                    message = "crashed the process"
                    yield {"event": "failed", "key": each.key, "message": message, "fatal": True}
                    return
                else:
                    yield self.one(each, level[each.key])
            longest = max(longest, self.now - at)
            if not playing or self.now - begun + longest > seconds:
                return

    def one(self, candidate, level):
        level += self.rng.normal(0, self.session)
        level += self.rng.exponential(0.5) * (self.rng.random() < self.burst)
        faster = self.faster.get(candidate.key, self.faster.get(candidate.path, 1.0))
        runs = self.rng.normal(level, self.run, candidate.runs or 20)
        times = (self.run_ms * 1e6 / faster * np.exp(runs)).astype(int).tolist()
        self.now += self.load + (self.wall_ns or sum(times)) / 1e9
        event = {"event": "session", "key": candidate.key, "times_ns": times}
        traffic = {"wall_ns": self.wall_ns, "overloaded": True} if self.wall_ns else {}
        return {**event, "load_ns": self.load * 0.4e9, "warm_ns": self.load * 0.6e9, **traffic}

    def sessions(self):
        """Return how many sessions each process was to have of each candidate."""
        return [{each.key: 2 * each.rounds for each in plan} for plan in self.plans]


@pytest.fixture
def machine(monkeypatch):
    """Let contests run on a `Machine` instead of this one."""

    def install(*arguments, **told):
        made = Machine(*arguments, **told)
        monkeypatch.setattr(contest, "measure_turns", made.measure_turns)
        monkeypatch.setattr(contest, "time", made)
        return made

    return install


@pytest.fixture
def loading(monkeypatch):
    """Let models be loaded in no process: `told` is what it tells of all, and by path what differs.

    Returns the candidates that were loaded.
    """

    def install(by_path=None, **told):
        seen = []
        usual = {
            "event": "alone",
            "load_ns": 50_000_000,
            "first_ns": 3_000_000,
            "assignments": [["a", "MatMul", CPU], ["b", "MatMul", CPU]],
            "peak_rss_bytes": 50_000_000,
            "device_bytes": None,
            "joules_per_run": None,
            **told,
        }

        def measure_alone(candidate, *, timeout):
            seen.append(candidate)
            different = (by_path or {}).get(candidate.path, {})
            yield {"event": "ready"}
            yield {**usual, "key": candidate.key, **different}

        monkeypatch.setattr(alone, "measure_alone", measure_alone)
        return seen

    return install


@pytest.fixture
def feeding(monkeypatch):
    """Let feeds be made in no process: of `others`, by path, each model gets one of its own."""

    def install(others=(), errors=()):
        def feeds_for(path, batches, folder, *, number, first, **_):
            if path in errors:
                return {batch: Fed(error="input 'x' cannot be guessed") for batch in batches}
            return {
                batch: Fed(
                    file=f"{number}-{batch}.npz",
                    described={"x": f"float32[{batch or 1},8]"},
                    shared=batch in first and path not in others,
                )
                for batch in batches
            }

        monkeypatch.setattr(table, "feeds_for", feeds_for)

    install()
    return install


@pytest.fixture
def quick(machine, loading, feeding, monkeypatch):
    """Measure on a `Machine`, with models that are loaded in no process: return that machine."""
    # All that is installed is read for these: a tenth of a second each time.
    monkeypatch.setattr(environment, "installed_wheels", lambda: {"onnxruntime": "1.99"})
    loading()
    return machine()
