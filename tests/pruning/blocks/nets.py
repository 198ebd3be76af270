"""Small networks with blocks that can be left out."""

import numpy as np

from onnxopt.graph import io
from onnxopt.passes import shapes
from tests.quantizing.repair.nets import net, normal


def built(text, **constants):
    model = io.from_proto(net(text, **constants))
    shapes.infer(model)
    return model


def _layer(number, width, *, norm_first):
    """Return attention and MLP with residual sums around them: `h` is what they read."""
    n = number
    weights = {
        f"{name}{n}": 0.3 * normal(*shape, seed=7 * n + place)
        for place, (name, shape) in enumerate({
            "wq": (width, width), "wk": (width, width), "wv": (width, width),
            "wi": (width, 3 * width), "wo": (3 * width, width), "bo": (width,),
            "g1": (width,), "g2": (width,),
        }.items())
    }  # fmt: skip
    weights[f"g1{n}"], weights[f"g2{n}"] = 1 + weights[f"g1{n}"], 1 + weights[f"g2{n}"]
    read = (f"a{n}", f"c{n}") if norm_first else (f"h{n}", f"m{n}")
    attention = f"""
        q{n} = MatMul({read[0]}, wq{n})
        k{n} = MatMul({read[0]}, wk{n})
        t{n} = Transpose <perm=[0,2,1]> (k{n})
        s{n} = MatMul(q{n}, t{n})
        b{n} = Add(s{n}, mask)
        p{n} = Softmax(b{n})
        v{n} = MatMul({read[0]}, wv{n})
        o{n} = MatMul(p{n}, v{n})"""
    mlp = f"""
        i{n} = MatMul({read[1]}, wi{n})
        r{n} = Relu(i{n})
        d{n} = MatMul(r{n}, wo{n})
        e{n} = Add(d{n}, bo{n})"""
    if norm_first:
        text = f"""
        a{n} = LayerNormalization(h{n}, g1{n}){attention}
        m{n} = Add(h{n}, o{n})
        c{n} = LayerNormalization(m{n}, g2{n}){mlp}
        h{n + 1} = Add(e{n}, m{n})"""
    else:
        text = f"""{attention}
        x{n} = Add(o{n}, h{n})
        m{n} = LayerNormalization(x{n}, g1{n}){mlp}
        y{n} = Add(m{n}, e{n})
        h{n + 1} = LayerNormalization(y{n}, g2{n})"""
    return text, weights


def transformer(layers=2, width=8, *, norm_first=False):
    """Return an encoder over ids [N, S] with a mask that is computed outside of its layers."""
    parts = [_layer(number, width, norm_first=norm_first) for number in range(layers)]
    text = f"""(int64[N,S] ids, float[N,S] seen) => (float[N,S,{width}] out) {{
        h0 = Gather(table, ids)
        w = Unsqueeze(seen, one)
        u = Sub(w, unit)
        mask = Mul(u, much)
        {"".join(part for part, _ in parts)}
        out = Identity(h{layers})
    }}"""
    constants = {
        "table": normal(20, width), "one": np.array([1]),
        "unit": np.float32(1), "much": np.float32(9),
    }  # fmt: skip
    for _, weights in parts:
        constants |= weights
    return built(text, **constants)


def sentences(count, seed=0, length=6):
    rng = np.random.default_rng(seed)
    return [
        {"ids": rng.integers(0, 20, (1, length)), "seen": np.ones((1, length), np.float32)}
        for _ in range(count)
    ]


def convolutions(width=6):
    """Return a stem, a residual block, and a stack of two convolutions without a sum."""
    text = """(float[N,3,8,8] x) => (float[N,4] y) {
        a = Conv <pads=[1,1,1,1]> (x, w0)
        ar = Relu(a)
        b = Conv <pads=[1,1,1,1]> (ar, w1, b1)
        br = Relu(b)
        c = Conv <pads=[1,1,1,1]> (br, w2)
        s = Add(c, ar)
        sr = Relu(s)
        d = Conv <pads=[1,1,1,1]> (sr, w3, b3)
        dr = Relu(d)
        e = Conv <pads=[1,1,1,1]> (dr, w4)
        er = Relu(e)
        g = GlobalAveragePool(er)
        f = Flatten(g)
        y = Gemm <transB=1> (f, w5)
    }"""
    inner = {f"w{n}": 0.15 * normal(width, width, 3, 3, seed=n) for n in (1, 2, 3, 4)}
    return built(
        text, w0=0.4 * normal(width, 3, 3, 3), w5=normal(4, width), b1=0.1 * normal(width),
        b3=0.1 * normal(width, seed=1), **inner,
    )  # fmt: skip


def pictures(count, seed=0):
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(0, 1, (1, 3, 8, 8)).astype(np.float32)} for _ in range(count)]
