"""The ordered table of rewrite rules: one line each, as `file.function`.

Rules that share a root operator are tried in this order. A new rule is a file in this folder, a
line here and a test: docs/add-a-rule.md goes through it.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxopt.rewrite.rule import Rule

TABLE = (
    # what stands for nothing: identities, pairs that cancel, chains of one kind
    "identity.drop_identity",
    "identity.drop_dropout",
    "identity.drop_neutral_operand",
    "identity.drop_single_operand",
    "identity.drop_decided_where",
    "same_shape.drop_reshape_to_same_shape",
    "same_shape.drop_expand_to_same_shape",
    "same_shape.drop_slice_of_all",
    "same_shape.drop_empty_pad",
    "same_shape.drop_pool_of_one",
    "same_shape.drop_global_pool_of_one",
    "same_shape.drop_resize_to_same_size",
    "same_shape.drop_reduction_of_one",
    "casts.drop_cast_to_same_type",
    "casts.merge_casts",
    "signs.cancel_double_negation",
    "signs.drop_repeated_operator",
    "signs.drop_negation_in_abs",
    "signs.fold_negation_into_subtraction",
    "signs.fold_negation_into_addition",
    "clamps.drop_unbounded_clamp",
    "clamps.merge_clamps",
    "clamps.clamp_to_relu",
    "transposes.drop_idle_transpose",
    "transposes.merge_transposes",
    "transposes.merge_transposes_around_reshape",
    "transposes.cancel_transposes_around",
    "transposes.fold_transpose_into_gemm",
    "reshapes.cancel_squeeze_of_unsqueeze",
    "reshapes.cancel_unsqueeze_of_squeeze",
    "reshapes.merge_unsqueezes",
    "reshapes.merge_squeezes",
    "reshapes.merge_reshapes",
    "reshapes.move_reshape_over_elementwise",
    "gathers.drop_gather_of_one",
    "gathers.turn_slice_squeeze_into_gather",
    "gathers.keep_gathered_axis",
    "reductions.keep_reduced_axes",
    "reductions.drop_reduced_axes",
    "reductions.reduce_before_transpose",
    "slices.slice_concat_part",
    "slices.merge_slices",
    "slices.merge_slices_into_split",
    "concats.drop_empty_operands",
    "concats.join_split",
    "concats.join_slices",
    "concats.flatten_concats",
    "concats.stack_by_concat",
    "recurrent.drop_zero_initial_state",
    "einsum.turn_einsum_into_transpose",
    "einsum.turn_einsum_into_matmul",
    # normalisation and activation, from the forms that exporters write
    "gelu.fuse_erf_gelu",
    "gelu.fuse_erf_gelu_for_onnxruntime",
    "gelu.respell_erf_gelu",
    "gelu.fuse_tanh_gelu",
    "gelu.fuse_tanh_gelu_for_onnxruntime",
    "gelu.respell_tanh_gelu",
    "layernorm.fuse_layer_normalization",
    "layernorm.fuse_scaled_layer_normalization",
    "layernorm.fold_scale_into_normalization",
    "layernorm.fold_shift_into_layer_normalization",
    "layernorm.fold_casts_into_normalization",
    "instancenorm.fuse_instance_normalization",
    "instancenorm.fold_scale_into_instance_normalization",
    "instancenorm.fold_shift_into_instance_normalization",
    "rmsnorm.fuse_rms_normalization",
    "rmsnorm.fuse_scaled_rms_normalization",
    "rmsnorm.respell_rms_normalization",
    "hardswish.fuse_hard_sigmoid",
    "hardswish.fuse_product_with_hard_sigmoid",
    "hardswish.fuse_hard_swish",
    "leaky_relu.fuse_max_to_leaky_relu",
    "leaky_relu.fuse_where_to_prelu",
    "leaky_relu.fuse_relus_to_prelu",
    "leaky_relu.fuse_relu_difference_to_prelu",
    "leaky_relu.fuse_abs_to_prelu",
    "softplus.fuse_softplus",
    "softplus.fuse_mish",
    "softsign.fuse_softsign",
    "softmax.fuse_softmax",
    "softmax.fuse_log_softmax",
    "softmax.drop_softmax_before_argmax",
    "power.square_by_multiplication",
    "power.power_to_root",
    "power.power_to_reciprocal",
    # constants into constants and into linear operators
    "reassociate.merge_scales",
    "reassociate.merge_shifts",
    "reassociate.merge_affine",
    "batchnorm.fold_batchnorm_into_linear",
    "constant_after.fold_scale_into_linear",
    "constant_after.fold_negation_into_linear",
    "constant_after.fold_shift_into_linear",
    "constant_after.fold_subtraction_into_linear",
    "gemm.fuse_matmul_add",
    "pad.fold_pad_into_conv",
    "pad.fold_pad_into_average_pool",
    "pad.fold_pad_into_max_pool",
    "batchnorm.fold_batchnorm_into_next_linear",
    "constant_before.fold_scale_into_next_linear",
    "constant_before.fold_negation_into_next_linear",
    "constant_before.fold_shift_into_next_linear",
    "constant_before.fold_scale_past_shift",
    "scale_through.fold_scale_of_product_into_linear",
    "scale_through.fold_scale_from_afar_into_linear",
    "scale_through.fold_scale_from_afar_into_next_linear",
    "attention_bias.drop_key_bias",
    "attention_bias.fold_value_bias_into_output",
    "linear_chain.merge_convolutions",
    "linear_chain.merge_matrices",
)


@functools.cache
def load() -> tuple[Rule, ...]:
    """Import every rule of the table, in its order."""
    found = []
    for line in TABLE:
        module, name = line.rsplit(".", 1)
        found.append(getattr(importlib.import_module(f"onnxopt.rules.{module}"), name))
    return tuple(found)


def names() -> tuple[str, ...]:
    """Return the names of all rules without importing any."""
    return tuple(line.rsplit(".", 1)[1] for line in TABLE)
