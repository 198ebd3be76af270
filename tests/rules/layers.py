"""Linear layers and BatchNormalization of eight channels, for tests that fold constants."""


def layer(g, kind, x, bias=True, group=1, **attributes):
    """Make a layer of 8 input channels; 8 outputs, of ConvTranspose 4 per group."""
    if kind == "MatMul":
        made = g.MatMul(x, g.weight(8, 8), **attributes)
        return g.Add(made, g.weight(8)) if bias else made
    shape, outputs = (8, 8), 8
    if kind == "Conv":
        shape, attributes["group"] = (8, 8 // group, 3, 3), group
    elif kind == "ConvTranspose":
        shape, outputs, attributes["group"] = (8, 4, 2, 2), 4 * group, group
    inputs = [x, g.weight(*shape)]
    if bias:
        inputs.append(g.weight(outputs))
    return g.node(kind, *inputs, **attributes)


def statistics(g, channels):
    """Make gamma, beta, mean and variance."""
    variance = g.const(g.rng.uniform(0.5, 1.5, channels))
    return [g.weight(channels), g.weight(channels), g.weight(channels), variance]


def image(g):
    return g.input("x", 2, 8, 9, 9)
