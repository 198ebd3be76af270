"""The formulas against what numpy has to do, and that no operator of ONNX is forgotten."""

import math

import onnx.defs
import pytest

from onnxopt.graph.work import holds_graphs, is_counted, macs, traffic

UNKNOWN = {
    "AffineGrid", "DFT", "Det", "ImageDecoder", "LinearAttention", "MelWeightMatrix", "STFT",
    "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer",
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "count"),
    [
        ("Conv", [(1, 3, 8, 8), (4, 3, 3, 3), (4,)], [(1, 4, 6, 6)], 4 * 36 * 27),
        ("Conv", [(1, 8, 8, 8), (8, 1, 3, 3)], [(1, 8, 6, 6)], 8 * 36 * 9),
        ("QLinearConv", [(1, 3, 8), (), (), (4, 3, 3), (4,), (), (), ()], [(1, 4, 6)], 4 * 6 * 9),
        ("NhwcFusedConv", [(1, 8, 8, 3), (4, 3, 3, 3)], [(1, 6, 6, 4)], 4 * 36 * 27),
        ("ConvTranspose", [(1, 3, 5, 5), (3, 2, 4, 4)], [(1, 2, 20, 20)], 75 * 32),
        ("MatMul", [(2, 5, 7), (2, 7, 3)], [(2, 5, 3)], 2 * 5 * 7 * 3),
        ("MatMul", [(7,), (7,)], [()], 7),
        ("MatMul", [(2, 5, 7)], [(2, 5, 3)], 2 * 5 * 7 * 3),
        ("MatMulNBits", [(1, 5, 64), (3, 2, 16)], [(1, 5, 3)], 5 * 64 * 3),
        ("FusedMatMul", [(2, 7, 5), (2, 7, 3)], [(2, 5, 3)], 2 * 5 * 7 * 3),
        ("FusedMatMul", [(7, 5), (2, 7, 3)], [(2, 5, 3)], 2 * 5 * 7 * 3),
        ("Gemm", [(7, 5), (3, 7), (3,)], [(5, 3)], 5 * 7 * 3),
        ("LSTM", [(9, 2, 4), (2, 12, 4), (2, 12, 3)], [(9, 2, 2, 3)], 9 * 2 * 2 * 12 * (4 + 3)),
        ("Attention", [(1, 9, 8), (1, 5, 8), (1, 5, 8)], [(1, 9, 8)], 2 * 9 * 5 * 8),
        ("Attention", [(1, 9, 8), (8, 24), (24,)], [(1, 9, 8)], 9 * 8 * 24 + 2 * 9 * 9 * 8),
        (
            "GroupQueryAttention",
            [(1, 1, 24), (1, 2, 6, 4), (1, 2, 6, 4)],
            [(1, 1, 16), (1, 2, 7, 4), (1, 2, 7, 4)],
            2 * 16 * 7,
        ),
        ("Add", [(5, 5), (5, 5)], [(5, 5)], 0),
    ],
)
def test_formulas_count_what_is_multiplied(op, inputs, outputs, count):
    assert macs(op, inputs, outputs) == count


@pytest.mark.parametrize(
    ("equation", "inputs", "count"),
    [
        ("bij,bjk->bik", [(2, 5, 7), (2, 7, 3)], 2 * 5 * 7 * 3),
        ("i,j->ij", [(5,), (7,)], 0),
        ("ij->i", [(5, 7)], 0),
        ("ij,jk,kl->il", [(5, 7), (7, 3), (3, 2)], None),
        ("...i,i->...", [(5, 7), (7,)], None),
        ("ij,jk->ik", [(5, 7, 3), (7, 3)], None),
        ("", [(5, 7), (7, 3)], None),
    ],
)
def test_einsum_is_counted_by_its_letters(equation, inputs, count):
    assert macs("Einsum", inputs, [], equation) == count


def test_nothing_is_claimed_where_shapes_are_missing_or_others_stand_in_their_place():
    assert macs("Conv", [(1, 3, 8, 8), (4,)], [(1, 4, 6, 6)]) is None
    assert macs("LSTM", [(9, 2, 4), (2, 96), (2, 2, 3)], [(9, 2, 2, 3)]) is None
    assert macs("MatMul", [None, (7, 3)], [(5, 3)]) is None
    assert macs("Gemm", [(5, 7)], []) is None
    assert macs("TRTKernel_graph_0", [(1, 3)], [(1, 3)]) is None


def test_every_operator_of_onnx_is_counted_has_none_holds_graphs_or_is_known_as_unknown():
    operators = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    assert "Conv" in operators
    for op in operators - UNKNOWN:
        assert is_counted(op) or holds_graphs(op) or macs(op, [], []) == 0, op
    assert not {op for op in UNKNOWN if macs(op, [], []) is not None}


def test_views_move_nothing_and_picks_what_they_pick():
    assert traffic("Reshape", 800, 800) == 0
    assert traffic("Gather", 1e9, 80) == 160
    assert traffic("Add", 160, 80) == 240
    assert math.isclose(traffic("Conv", 100.5, 1), 101.5)
