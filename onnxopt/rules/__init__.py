"""The ordered table of rewrite rules: one line each, as `folder.file.function`.

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
    "simple.identity.drop_identity",
    "simple.identity.drop_dropout",
    "simple.identity.drop_neutral_operand",
    "unread.zeros.drop_zero_addend",
    "unread.zeros.drop_layer_of_zeros",
    "unread.zeros.replace_zero_product",
    "simple.identity.drop_single_operand",
    "simple.identity.drop_decided_where",
    "simple.same_shape.drop_reshape_to_same_shape",
    "simple.same_shape.drop_expand_to_same_shape",
    "simple.same_shape.drop_slice_of_all",
    "simple.same_shape.drop_empty_pad",
    "simple.same_shape.drop_pool_of_one",
    "simple.same_shape.drop_global_pool_of_one",
    "simple.same_shape.drop_resize_to_same_size",
    "simple.same_shape.drop_reduction_of_one",
    "simple.casts.drop_cast_to_same_type",
    "simple.casts.merge_casts",
    "simple.signs.cancel_double_negation",
    "simple.signs.drop_repeated_operator",
    "simple.signs.drop_negation_in_abs",
    "simple.signs.fold_negation_into_subtraction",
    "simple.signs.fold_negation_into_addition",
    "simple.clamps.drop_unbounded_clamp",
    "simple.clamps.merge_clamps",
    "simple.clamps.clamp_to_relu",
    "layout.transposes.drop_idle_transpose",
    "layout.transposes.merge_transposes",
    "layout.transposes.merge_transposes_around_reshape",
    "layout.transposes.cancel_transposes_around",
    "layout.regrouped.transpose_without_grouping",
    "layout.transposes.fold_transpose_into_gemm",
    "layout.reshapes.cancel_squeeze_of_unsqueeze",
    "layout.reshapes.cancel_unsqueeze_of_squeeze",
    "layout.reshapes.merge_unsqueezes",
    "layout.reshapes.merge_squeezes",
    "layout.reshapes.merge_reshapes",
    "layout.reshapes.move_reshape_over_elementwise",
    "layout.blocks.fuse_space_to_depth",
    "layout.blocks.fuse_depth_to_space",
    "layout.gathers.drop_gather_of_one",
    "layout.gathers.turn_slice_squeeze_into_gather",
    "layout.gathers.keep_gathered_axis",
    "layout.reductions.keep_reduced_axes",
    "layout.reductions.drop_reduced_axes",
    "layout.reductions.reduce_before_transpose",
    "layout.slices.slice_concat_part",
    "layout.slices.merge_slices",
    "layout.slices.merge_slices_into_split",
    "layout.concats.drop_empty_operands",
    "layout.concats.join_split",
    "layout.concats.join_slices",
    "layout.concats.flatten_concats",
    "layout.concats.stack_by_concat",
    "linear.recurrent.drop_zero_initial_state",
    "linear.einsum.turn_einsum_into_transpose",
    "linear.einsum.turn_einsum_into_matmul",
    # normalisation and activation, from the forms that exporters write
    "activations.gelu.fuse_erf_gelu",
    "activations.gelu.fuse_erf_gelu_for_onnxruntime",
    "activations.gelu.respell_erf_gelu",
    "activations.gelu.fuse_tanh_gelu",
    "activations.gelu.fuse_tanh_gelu_for_onnxruntime",
    "activations.gelu.respell_tanh_gelu",
    "activations.biased.fuse_bias_gelu",
    "activations.biased.fuse_bias_fast_gelu",
    "norms.layernorm.fuse_layer_normalization",
    "norms.layernorm.fuse_scaled_layer_normalization",
    "norms.layernorm.fold_scale_into_normalization",
    "norms.layernorm.fold_shift_into_layer_normalization",
    "norms.layernorm.fold_casts_into_normalization",
    "norms.residual.add_before_normalization_by_sum",
    "norms.channels.fuse_channel_layer_normalization",
    "norms.channels.move_constant_before_transpose",
    "norms.instancenorm.fuse_instance_normalization",
    "norms.instancenorm.fold_scale_into_instance_normalization",
    "norms.instancenorm.fold_shift_into_instance_normalization",
    "norms.rmsnorm.fuse_rms_normalization",
    "norms.rmsnorm.fuse_scaled_rms_normalization",
    "norms.rmsnorm.respell_rms_normalization",
    "activations.hardswish.fuse_hard_sigmoid",
    "activations.hardswish.fuse_product_with_hard_sigmoid",
    "activations.hardswish.fuse_hard_swish",
    "activations.leaky_relu.fuse_max_to_leaky_relu",
    "activations.leaky_relu.fuse_where_to_prelu",
    "activations.leaky_relu.fuse_relus_to_prelu",
    "activations.leaky_relu.fuse_relu_difference_to_prelu",
    "activations.leaky_relu.fuse_abs_to_prelu",
    "activations.softplus.fuse_softplus",
    "activations.softplus.fuse_mish",
    "activations.softsign.fuse_softsign",
    "activations.softmax.fuse_softmax",
    "activations.softmax.fuse_log_softmax",
    "activations.softmax.drop_softmax_before_argmax",
    "simple.power.square_by_multiplication",
    "simple.power.power_to_root",
    "simple.power.power_to_reciprocal",
    # constants into constants and into linear operators
    "simple.reassociate.merge_scales",
    "simple.reassociate.merge_shifts",
    "simple.reassociate.merge_affine",
    "linear.batchnorm.fold_batchnorm_into_linear",
    "linear.constant_after.fold_scale_into_linear",
    "linear.constant_after.fold_negation_into_linear",
    "linear.constant_after.fold_shift_into_linear",
    "linear.constant_after.fold_subtraction_into_linear",
    "linear.gemm.fuse_matmul_add",
    "linear.gemm.multiply_without_merging",
    "linear.pad.fold_pad_into_conv",
    "linear.pad.fold_pad_into_average_pool",
    "linear.pad.fold_pad_into_max_pool",
    "linear.branches.spell_branches_as_additions",
    "linear.branches.merge_parallel_convolutions",
    "linear.branches.merge_identity_into_convolution",
    "linear.upsampling.convolve_before_upsampling",
    "linear.upsampling.activate_before_upsampling",
    "linear.upsampling.merge_upsampling_into_convolution",
    "linear.pooling.average_before_convolution",
    "linear.batchnorm.fold_batchnorm_into_next_linear",
    "linear.constant_before.fold_scale_into_next_linear",
    "linear.constant_before.fold_negation_into_next_linear",
    "linear.constant_before.fold_shift_into_next_linear",
    "linear.constant_before.fold_scale_past_shift",
    "linear.scale_through.fold_scale_of_product_into_linear",
    "linear.scale_through.fold_scale_from_afar_into_linear",
    "linear.scale_through.fold_scale_from_afar_into_next_linear",
    "attention.guard.guard_by_mask",
    "attention.rotary.fuse_rotary_embedding",
    "attention.fused.fuse_multi_head_attention",
    "attention.fused.fuse_attention",
    "attention.fused_biases.drop_key_bias_of_fused",
    "attention.fused_biases.fold_value_bias_of_fused",
    "attention.projections.fuse_projections_into_attention",
    "attention.standard.respell_attention_by_the_standard",
    "attention.biases.drop_key_bias",
    "attention.biases.fold_value_bias_into_output",
    "unread.channels.drop_constant_channels",
    "unread.channels.merge_equal_channels",
    "linear.shuffled.fold_channel_shuffle_into_conv",
    "linear.shuffled.fold_gathered_channels_into_conv",
    "linear.strided.fold_focus_into_conv",
    "linear.strided.fold_space_to_depth_into_conv",
    "linear.strided.fold_pixel_unshuffle_into_conv",
    "linear.chains.merge_convolutions",
    "linear.chains.merge_matrices",
    # parts of tensors, cut before they are computed
    "unread.several.split_what_is_read",
    "unread.cuts.slice_before_computing",
    "unread.several.slices_before_computing",
    "unread.cuts.gather_before_computing",
    "simple.power.quotient_to_reciprocal",
    "linear.per_channel.fuse_channel_affine",
)

FUSING = frozenset({"attention", "norms", "activations"})
"""Folders whose rules put one operator in the place of many: its kernel decides if that pays."""


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


@functools.cache
def rooms() -> dict[str, str]:
    """Return the folder that each rule lives in: what belongs together is measured together."""
    return {line.rsplit(".", 1)[1]: line.split(".", 1)[0] for line in TABLE}
