"""How kernels multiply int8: whether they add two products in 16 bits, and which two.

x86 without VNNI does (VPMADDUBSW; see `quantize/weights/pairs.py` for the arithmetic), and which
weights are neighbours is the kernel's business: the order in which it walks a convolution, and
where it takes another way. So it is tried: tiny models whose channels each have two weights of 127
and zeros, one channel for every two columns, on inputs of 255. 2 · 255 · 127 is what comes out
unless the two are added in 16 bits.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import combinations, pairwise
from typing import Any, Literal

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import OnnxOptError
from onnxopt.runtime.machine.isa import Processor, processor

Sums = Literal["exact", "neighbours", "others", "unknown"]

_ADDS_IN_16_BITS = {
    "vnni": False,
    "amx": False,
    "avx512": True,
    "avx2": True,
    # SMLAL adds two int8 products in 16 bits, but without -128 in the weights they fit.
    "neon-dot": False,
    "neon": False,
}
_KINDS = ("Conv", "depthwise Conv", "MatMul", "Gemm")
_INPUT, _WEIGHT = 255, 127
_EXACT = 2 * _INPUT * _WEIGHT
_STEP = _EXACT / 200
"""Scale of uint8 outputs: exact sums come to 200, saturated ones to about 101."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One kernel that was tried: what it is, and which columns it adds in 16 bits.

    `sums` is `exact` for none, `neighbours` for columns 2j and 2j + 1, `others` for anything else,
    `unknown` where onnxruntime does not run it.
    """

    name: str
    kind: str
    sums: Sums


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """How the int8 kernels of an instruction set add.

    `exact` are kinds of kernels that add in 32 bits all the same. `neighbours` is false where the
    installed onnxruntime adds other columns than 2j and 2j + 1. `probe` says in words what was
    tried here, and what not.
    """

    isa: str
    adds_in_16_bits: bool
    neighbours: bool = True
    exact: tuple[str, ...] = ()
    probe: str = ""


def kernels_for(isa: str) -> Kernels:
    """Return how kernels of an instruction set add: one of `config.ISAS` but `auto`.

    What this processor's own kernels do is tried. What others do is known beforehand, but which
    columns they add is taken from here where it can be.
    """
    own, found = isa_of(processor()), pairing()
    tried = [trial for trial in found if trial.sums != "unknown"]
    saturates = any(trial.sums != "exact" for trial in tried)
    adds = _ADDS_IN_16_BITS.get(own if isa == "native" else isa, True)
    if isa in {"native", own} and tried:
        # The processor's name is no proof: a build or a hypervisor may keep kernels from it.
        isa, adds = own if saturates == adds else "native", saturates
    words = _words(found)
    if not adds:
        return Kernels(isa=isa, adds_in_16_bits=False, exact=_KINDS, probe=words)
    if not saturates:
        words = f"which products {isa} adds could not be tried: {words}"
        return Kernels(isa=isa, adds_in_16_bits=True, exact=("depthwise Conv",), probe=words)
    kinds = {kind: {trial.sums for trial in tried if trial.kind == kind} for kind in _KINDS}
    return Kernels(
        isa=isa,
        adds_in_16_bits=True,
        neighbours=all(trial.sums != "others" for trial in tried),
        exact=tuple(kind for kind, sums in kinds.items() if sums == {"exact"}),
        probe=words,
    )


def isa_of(processor: Processor) -> str:
    """Return the instruction set by which onnxruntime chooses its int8 kernels."""
    order = {
        "amx": ("amx_int8",),
        "vnni": ("avx512_vnni", "avx_vnni"),
        "avx512": ("avx512bw",),
        "avx2": ("avx2",),
        "neon-dot": ("asimddp", "i8mm"),
        "neon": ("asimd",),
    }
    return next((isa for isa, has in order.items() if any(map(processor.has, has))), "unknown")


@cache
def pairing() -> tuple[Trial, ...]:
    """Try which columns the installed onnxruntime's kernels add in 16 bits on this processor.

    Takes some tenths of a second, once in a process.
    """
    return (
        _try_conv("Conv 1x1, 12 channels", (1, 1), 12),
        _try_conv("Conv 1x1, 13 channels", (1, 1), 13),
        _try_conv("Conv 1x1, 12 channels, one position", (1, 1), 12, size=1),
        _try_conv("Conv 3x3, 3 channels", (3, 3), 3),
        _try_conv("Conv 3x3, 4 channels", (3, 3), 4),
        _try_conv("Conv 5, 5 channels", (5,), 5),
        _try_conv("Conv 3x3, 2 groups of 4 channels", (3, 3), 4, groups=2),
        _try_conv("Conv 3x3, a group for each input, 2 outputs each", (3, 3), 1, groups=18),
        _try_conv("depthwise Conv 3x3", (3, 3), 1, groups=36),
        _try_conv("depthwise Conv 5x5", (5, 5), 1, groups=300),
        _try_conv("depthwise Conv 4", (4,), 1, groups=6),
        _try_product("MatMul of one row", "MatMulInteger", 1, _couples(13)),
        _try_product("MatMul of 9 rows", "MatMulInteger", 9, _couples(13)),
        _try_product("MatMul, 1,030 deep", "MatMulInteger", 4, list(pairwise(range(1030)))),
        _try_product("Gemm of one row", "QGemm", 1, _couples(13)),
        _try_product("Gemm of 9 rows", "QGemm", 9, _couples(13)),
    )


def _couples(columns: int) -> list[tuple[int, int]]:
    return list(combinations(range(columns), 2))


def _rows(couples: list[tuple[int, int]]) -> Array:
    """Return rows of zeros with two weights each: int8 [couples, columns]."""
    rows = np.zeros((len(couples), max(map(max, couples)) + 1), np.int8)
    for row, couple in zip(rows, couples, strict=True):
        row[list(couple)] = _WEIGHT
    return rows


def _try_conv(
    name: str, kernel: tuple[int, ...], channels: int, *, groups: int = 1, size: int = 6
) -> Trial:
    """Try a convolution of `groups` groups of input channels, whose rows share them out."""
    couples = _couples(int(np.prod(kernel)) * channels)
    rows = _rows(couples)
    # Rows are in the order in which the kernel is thought to walk: positions, then channels.
    weight = np.moveaxis(rows.reshape(len(rows), *kernel, channels), -1, 1)
    shape = (1, groups * channels, *(size for _ in kernel))
    names = ("x", "scale", "zero", "w", "scale", "weight_zero", "step", "zero")
    kind = "depthwise Conv" if groups == len(rows) else "Conv"
    options = {"group": groups, "kernel_shape": kernel}
    return _trial(name, kind, couples, ("QLinearConv", names, options), weight, shape)


def _try_product(name: str, op: str, count: int, couples: list[tuple[int, int]]) -> Trial:
    """Try a matrix product of `count` rows of inputs."""
    rows = _rows(couples)
    if op == "QGemm":
        names = ("x", "scale", "zero", "w", "scale", "weight_zero", "", "step", "zero")
        return _trial(
            name, "Gemm", couples, (op, names, {"transB": 1}), rows, (count, rows.shape[1])
        )
    return _trial(name, "MatMul", couples, (op, ("x", "w"), {}), rows.T, (count, rows.shape[1]))


def _trial(
    name: str,
    kind: str,
    couples: list[tuple[int, int]],
    node: tuple[str, tuple[str, ...], dict[str, Any]],
    weight: Array,
    shape: tuple[int, ...],
) -> Trial:
    from onnxopt.runtime.sessions.session import open_session, run

    try:
        session = open_session(_model(node, weight, shape), threads=1)
        (outputs,) = run(session, {"x": np.full(shape, _INPUT, np.uint8)})
    except OnnxOptError:
        return Trial(name=name, kind=kind, sums="unknown")
    sums = np.asarray(outputs, np.float64) * (_STEP if outputs.dtype == np.uint8 else 1.0)
    channels = np.moveaxis(sums, 1, 0).reshape(len(couples), -1)
    wrong = (np.abs(channels - _EXACT) > _STEP).any(axis=1)
    return Trial(name=name, kind=kind, sums=_judged(couples, np.asarray(wrong)))


def _judged(couples: list[tuple[int, int]], wrong: Array) -> Sums:
    if not wrong.any():
        return "exact"
    neighbours = [first % 2 == 0 and second == first + 1 for first, second in couples]
    return "neighbours" if (wrong == neighbours).all() else "others"


def _model(
    node: tuple[str, tuple[str, ...], dict[str, Any]], weight: Array, shape: tuple[int, ...]
) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    op, names, options = node
    constants = {
        "w": np.ascontiguousarray(weight),
        "scale": np.float32(1),
        "zero": np.uint8(0),
        "weight_zero": np.int8(0),
        "step": np.float32(_STEP),
    }
    output = TensorProto.INT32 if op == "MatMulInteger" else TensorProto.UINT8
    domain = "com.microsoft" if op == "QGemm" else ""
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], domain=domain, **options)],
        "pairing",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("y", output, None)],
        [
            numpy_helper.from_array(np.asarray(constants[each]), each)
            for each in dict.fromkeys(names)
            if each in constants
        ],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return made


def _words(trials: tuple[Trial, ...]) -> str:
    """Say in one line what came of the trials."""
    words = {
        "neighbours": "add neighbours (2j, 2j + 1) in 16 bits",
        "others": "add other products in 16 bits",
        "exact": "add in 32 bits",
        "unknown": "do not run",
    }
    counts: Counter[str] = Counter(trial.sums for trial in trials)
    told = [f"{counts[sums]} {does}" for sums, does in words.items() if counts[sums]]
    return f"of {len(trials)} kernels tried here {', '.join(told)}"
