import numpy as np
import pytest

from onnxopt.config import ISAS
from onnxopt.errors import OnnxOptError
from onnxopt.runtime.machine import multiply
from onnxopt.runtime.machine.isa import Processor
from onnxopt.runtime.machine.multiply import Trial, kernels_for, pairing
from onnxopt.runtime.sessions.session import open_session, run


def machine(monkeypatch, features, sums):
    """A processor, and what its kernels do by kind."""
    made = Processor(name="a", architecture="b", features=features, cores=1)
    trials = tuple(Trial(name=kind, kind=kind, sums=each) for kind, each in sums.items())
    monkeypatch.setattr(multiply, "processor", lambda: made)
    monkeypatch.setattr(multiply, "pairing", lambda: trials)


def pair_sums(x, weight):
    """What kernels come to that add neighbours in 16 bits."""
    x, weight = (np.pad(array, ((0, 0), (0, 1))).astype(int)[:, None] for array in (x, weight))
    weight = weight.swapaxes(0, 1)
    both = x[..., 0:-1:2] * weight[..., 0:-1:2] + x[..., 1::2] * weight[..., 1::2]
    return np.clip(both, -32768, 32767).sum(axis=2)


def test_the_installed_onnxruntime_does_what_is_known_of_this_processor():
    found = {trial.sums for trial in pairing()}
    assert found in ({"exact"}, {"exact", "neighbours"})
    depthwise = {trial.sums for trial in pairing() if trial.kind == "depthwise Conv"}
    assert depthwise == {"exact"}
    assert pairing() is pairing()


def test_the_arithmetic_of_a_product_is_the_one_that_was_found():
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (5, 301)).astype(np.uint8)
    weight = generator.integers(-127, 128, (40, 301)).astype(np.int8)
    model = multiply._model(("MatMulInteger", ("x", "w"), {}), weight.T, x.shape)
    (found,) = run(open_session(model), {"x": x})
    exact = x.astype(int) @ weight.T.astype(int)
    is_exact = not kernels_for("native").adds_in_16_bits
    assert (pair_sums(x, weight) != exact).any()
    assert (found == (exact if is_exact else pair_sums(x, weight))).all()


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa not in {"auto", "native"}])
def test_every_isa_of_the_options_is_known(isa):
    assert isa in multiply._ADDS_IN_16_BITS
    assert kernels_for(isa).isa in {isa, "native"}


SATURATING = {"Conv": "neighbours", "depthwise Conv": "exact", "MatMul": "neighbours"}


def test_what_is_tried_here_decides_about_this_processor(monkeypatch):
    machine(monkeypatch, ("avx2",), SATURATING)
    for isa in ("native", "avx2"):
        found = kernels_for(isa)
        assert (found.isa, found.adds_in_16_bits, found.neighbours) == ("avx2", True, True)
        assert found.exact == ("depthwise Conv",)
    assert not kernels_for("vnni").adds_in_16_bits


def test_a_name_is_not_believed_against_the_trial(monkeypatch):
    machine(monkeypatch, ("avx2", "avx512bw", "avx512_vnni"), SATURATING)
    assert kernels_for("native").isa == "native"
    assert kernels_for("native").adds_in_16_bits
    machine(monkeypatch, ("avx2",), dict.fromkeys(SATURATING, "exact"))
    assert not kernels_for("native").adds_in_16_bits


def test_another_instruction_set_is_taken_to_saturate_where_it_cannot_be_tried(monkeypatch):
    machine(monkeypatch, ("avx512_vnni",), dict.fromkeys(SATURATING, "exact"))
    found = kernels_for("avx2")
    assert found.adds_in_16_bits
    assert "could not be tried" in found.probe
    assert found.exact == ("depthwise Conv",)


def test_other_pairs_than_neighbours_are_told(monkeypatch):
    machine(monkeypatch, ("avx512bw",), SATURATING | {"Gemm": "others"})
    assert not kernels_for("avx2").neighbours
    assert kernels_for("avx2").neighbours == kernels_for("native").neighbours


def test_kernels_that_do_not_run_prove_nothing(monkeypatch):
    machine(monkeypatch, ("avx2",), SATURATING | {"Gemm": "unknown", "depthwise Conv": "unknown"})
    found = kernels_for("native")
    assert found.neighbours
    assert found.exact == ()
    machine(monkeypatch, ("avx2",), {"Conv": "unknown"})
    assert kernels_for("native").adds_in_16_bits


def test_an_onnxruntime_that_refuses_a_trial_leaves_it_unknown(monkeypatch):
    def refuse(*arguments, **options):
        raise OnnxOptError("no such operator", "")

    monkeypatch.setattr("onnxopt.runtime.sessions.session.open_session", refuse)
    assert {trial.sums for trial in pairing.__wrapped__()} == {"unknown"}


def test_judges_by_which_couples_came_out_wrong():
    couples = multiply._couples(4)
    right = np.array([couple in {(0, 1), (2, 3)} for couple in couples])
    assert multiply._judged(couples, right) == "neighbours"
    assert multiply._judged(couples, ~right) == "others"
    assert multiply._judged(couples, right & False) == "exact"
