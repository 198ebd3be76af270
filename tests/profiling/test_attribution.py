from onnxopt.profiling.attribution import Known, Ran, Timed, owners, times

KNOWN = Known(writes={"conv": ["c"], "clip": ["k"], "add": ["a"], "swish": ["s"], "dense": ["y"]})


def ran(op, name, reads, writes):
    return Ran(op=op, name=name, reads=tuple(reads.split()), writes=tuple(writes.split()))


def test_nodes_are_known_by_their_name_and_by_what_they_write():
    found = owners(
        [
            ran("QLinearConv", "conv_token_12", "x", "anything"),
            ran("Conv", "k_nchwc", "anything", "reorder_3"),
            ran("QLinearAdd", "a_quantized", "reorder_3", "a2"),
            ran("Mul", "", "a2", "s"),
            ran("FusedGemm", "fused", "s", "y"),
        ],
        KNOWN,
    )
    assert found == ["conv", "clip", "add", "swish", "dense"]


def test_layouts_are_conversions_at_a_border_and_else_part_of_their_neighbour():
    found = owners(
        [
            ran("QuantizeLinear", "q", "x", "xq"),
            ran("Transpose", "Transpose", "xq", "xt"),
            ran("QLinearConv", "conv", "xt", "c"),
            ran("Transpose", "Transpose_token_3", "c", "ct"),
            ran("QGemm", "dense", "ct", "y"),
            ran("ReorderInput", "ReorderInput", "z", "r"),
            ran("Conv", "add", "r", "a"),
        ],
        KNOWN,
    )
    assert found == [None, None, "conv", "conv", "dense", "add", "add"]


def test_what_nothing_names_behind_a_conversion_belongs_to_what_was_converted():
    found = owners(
        [
            ran("QLinearConv", "conv_token_1", "x", "c1"),
            ran("DequantizeLinear", "d", "c1", "c2"),
            ran("HardSigmoid", "", "c2", "t1"),
            ran("Mul", "", "c2 t1", "t2"),
            ran("QuantizeLinear", "q", "t2", "t3"),
        ],
        KNOWN,
    )
    assert found == ["conv", None, "conv", "conv", None]


def test_a_transpose_of_the_model_is_no_conversion():
    known = Known(writes={"turn": ["t"]})
    graph = [ran("QuantizeLinear", "q", "x", "xq"), ran("Transpose", "turn", "xq", "tq")]
    assert owners(graph, known) == [None, "turn"]


def test_times_of_nameless_nodes_go_by_operator_and_order():
    graph = [
        ran("HardSigmoid", "", "x", "s1"),
        ran("Mul", "", "s1", "s"),
        ran("QuantizeLinear", "s_q", "s", "sq"),
        ran("QLinearConv", "conv_token_1", "sq", "c"),
        ran("Mul", "", "c", "a"),
    ]
    rows = [
        Timed(name="HardSigmoid_7", op="HardSigmoid", us=1.0),
        Timed(name="Mul_8", op="Mul", us=2.0),
        Timed(name="s_q", op="QuantizeLinear", us=4.0),
        Timed(name="conv_token_1", op="QLinearConv", us=8.0),
        Timed(name="Mul_9", op="Mul", us=16.0),
        Timed(name="dense", op="Gemm", us=32.0),
    ]
    found, conversions = times(rows, graph, KNOWN)
    assert found == {"swish": 3.0, "conv": 8.0, "add": 16.0, "dense": 32.0}
    assert conversions == 4.0
