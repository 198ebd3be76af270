"""Why forms stay as they are, and why onnxruntime runs more nodes than after a peer.

Ratios are old time over new, medians of eight pairs of fresh sessions of onnxruntime 1.32 at its
default level, on one thread of an x86 processor.
"""

STAYS: dict[str, str] = {
    "softplus_decomposed": (
        "Softplus is slower: 0.35 for 2,048 elements, 0.19 for 100,000. onnxruntime's kernel works"
        " element by element. (For `cuda` and `tensorrt` it is made.)"
    ),
    "bn_conv_pad1": (
        "The zeros that the convolution pads are not shifted: its bias cannot hold the shift. The"
        " scale alone could go into the weight, but then an Add of as many elements stays."
    ),
    "bn_relu_conv": (
        "Relu stands between them. The scale, where it is positive, could go through it into the"
        " weight, but then an Add of as many elements stays."
    ),
    "sibling_conv_1x1_same_input": (
        "One Conv and a Split are slower: 0.94 for 64 channels of 28×28, 0.97 for 256 of 14×14"
        " (1.24 for this tiny form): Split copies what the two would write in place."
    ),
    "conv1d_unsqueeze": (
        "A Conv over one axis is slower: 0.92 for 64 channels of 400 elements, 0.97 for 256 of"
        " 1,000 (1.15 for this tiny form): onnxruntime's blocked layout is for two axes only."
    ),
    "resize_nearest_up2_conv": (
        "One ConvTranspose is 1.4 times as fast by itself, but slower (0.8) between other"
        " convolutions of few channels, where it leaves the blocked layout: done where the"
        " channels are many, and where it is measured."
    ),
    "window_partition_6d": "There is no operator for it, and one Transpose is the least it takes.",
    "layernorm_T_LN_T": (
        "LayerNormalization works on last axes. The parts over axis 1 are slower: 0.4 to 1.0 of"
        " the speed."
    ),
    "l2norm_reducel2": (
        "LpNormalization has no lower bound of the length: shorter vectors than 1e-12 would come"
        " out otherwise."
    ),
    "globalavgpool_reducemean": (
        "GlobalAveragePool is slower: 0.81 for 512×7×7, 0.61 for 8×64×56×56, 1.00 for this form."
    ),
}

_PROJECTIONS = (
    "onnxruntime's Attention with the projections in it multiplies by each head's columns by"
    " themselves: a BERT of twelve layers took 5 % longer with it than with three products and the"
    " standard's Attention."
)
_SKIP = "SkipLayerNormalization takes 510 µs for 1×128×768, Sum and LayerNormalization 112."

MORE_NODES: dict[str, str] = {
    "bias_gelu": (
        "BiasGelu behind MatMul is slower than Gelu behind Gemm, of which onnxruntime makes four"
        " nodes here: 0.96."
    ),
    "mha_eager_nomask": _PROJECTIONS,
    "mha_sdpa": _PROJECTIONS,
    "mha_eager_skipln": f"{_PROJECTIONS} {_SKIP}",
    "bert_mha_mask_ln": f"{_PROJECTIONS} {_SKIP}",
    "sibling_matmul_qkv": (
        "onnxruntime makes each MatMul and Add a Gemm between two Reshapes, and shares the first"
        " Reshape only where it loads its own result again. It is no faster: 0.94 to 1.04."
    ),
    "skip_layernorm": _SKIP,
    "skip_layernorm_bias": _SKIP,
}
