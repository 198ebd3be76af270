"""Models that people use: what was found in them, and that any scales leave them as they were."""

from pathlib import Path

import numpy as np
import pytest

from onnxopt.graph import io
from onnxopt.graph.editor import Editor
from onnxopt.quantizing.repair.chains import apply, candidates
from onnxopt.runtime.sessions.session import open_session, run

MODELS = Path(__file__).parents[3] / "models"


@pytest.mark.parametrize(
    ("name", "shape", "least"),
    [("pp_ocrv4_cls", (1, 3, 48, 192), 18), ("pp_ocrv4_rec", (1, 3, 48, 96), 13)],
)
def test_real_models_stay_what_they_were(name, shape, least):
    path = MODELS / f"{name}.onnx"
    feed = {"x": np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)}
    model = io.load(path)
    chains = candidates(model)
    assert len(chains) >= least
    rng, editor = np.random.default_rng(0), Editor(model)
    for chain in chains:
        assert apply(editor, chain, np.exp(rng.normal(0, 0.7, chain.size)))
    after = open_session(io.to_proto(model).SerializeToString(), threads=1)
    for one, other in zip(run(open_session(path, threads=1), feed), run(after, feed), strict=True):
        assert np.abs(one - other).max() <= 5e-5 * np.abs(one).max()
