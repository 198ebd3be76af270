"""What is exported: for each name a function that makes the module and its example inputs.

`full` is the published configuration (for llama one of 6 layers, 512 wide), `tiny` has two layers.
Sizes that mean different things differ in the tiny ones, so that no rule can take one for another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import transformers as hf
from transformers.cache_utils import DynamicCache, DynamicLayer

Size = Literal["full", "tiny"]
BATCH, SEQUENCE, SOURCE, PAST = 2, 7, 9, 5


@dataclass(frozen=True, kw_only=True)
class Export:
    """A module that takes `inputs` in order, and the names of their free dimensions."""

    module: torch.nn.Module
    inputs: dict[str, torch.Tensor]
    dynamic: dict[str, dict[int, str]]
    outputs: tuple[str, ...]


class Called(torch.nn.Module):
    """A model behind a function that takes plain tensors and returns plain tensors."""

    def __init__(self, model: torch.nn.Module, call: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.call = call

    def forward(self, *tensors: torch.Tensor) -> Any:
        """Call the function with the model before the tensors."""
        return self.call(self.model, *tensors)


def bert(size: Size, attention: str) -> Export:
    """Encode tokens: post-norm, absolute positions, token types."""
    sizes = {**_widths(), "max_position_embeddings": 32} if size == "tiny" else {}
    config = hf.BertConfig(attn_implementation=attention, **sizes)
    return _encoder(hf.BertModel(config, add_pooling_layer=False), size)


def distilbert(size: Size, attention: str) -> Export:
    """Encode tokens, as BERT does without token types."""
    sizes = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "vocab_size": 50}
    sizes |= {"max_position_embeddings": 32}
    config = hf.DistilBertConfig(attn_implementation=attention, **(sizes if size == "tiny" else {}))
    return _encoder(hf.DistilBertModel(config), size)


def vit(size: Size, attention: str) -> Export:
    """Classify pictures: pre-norm, a fixed number of tokens, no mask."""
    sizes = _widths(vocab_size=None) | {"image_size": 32, "patch_size": 8}
    config = hf.ViTConfig(
        attn_implementation=attention, num_labels=10, **(sizes if size == "tiny" else {})
    )
    return _classifier(hf.ViTForImageClassification(config), size)


def resnet50(size: Size, _attention: str) -> Export:
    """Classify pictures: Conv, BatchNormalization and Relu, added up."""
    sizes = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1]}
    config = hf.ResNetConfig(num_labels=10, **(sizes if size == "tiny" else {}))
    return _classifier(hf.ResNetForImageClassification(config), size)


def mobilenet_v2(size: Size, _attention: str) -> Export:
    """Classify pictures: depthwise convolutions and Clip."""
    sizes = {"depth_multiplier": 0.05, "depth_divisible_by": 2, "min_depth": 2, "image_size": 32}
    sizes |= {"finegrained_output": False}
    config = hf.MobileNetV2Config(num_labels=10, **(sizes if size == "tiny" else {}))
    return _classifier(hf.MobileNetV2ForImageClassification(config), size)


def gpt2(size: Size, attention: str) -> Export:
    """Score the next token: pre-norm, packed query, key and value, tanh GELU."""
    return _decoder(_gpt2(size, attention), size)


def llama(size: Size, attention: str) -> Export:
    """Score the next token: RMSNorm, rotary positions, grouped keys and values, SwiGLU."""
    return _decoder(_llama(size, attention), size)


def gpt2_cache(size: Size, attention: str) -> Export:
    """Score the next token with what earlier tokens left: keys and values come in and go out."""
    return _cached(_gpt2(size, attention), heads=3, width=8)


def llama_cache(size: Size, attention: str) -> Export:
    """The same for llama, whose rotary positions then depend on the length of the past."""
    return _cached(_llama(size, attention), heads=2, width=8)


def gpt_neox(size: Size, attention: str) -> Export:
    """Score the next token: packed by head, rotary on a part of the width, parallel residuals."""
    config = hf.GPTNeoXConfig(
        attn_implementation=attention,
        rotary_pct=0.5,
        use_cache=False,
        **_widths(max_position_embeddings=32),
    )
    return _decoder(hf.GPTNeoXForCausalLM(config), size)


def mistral(size: Size, attention: str) -> Export:
    """Score the next token: llama with a sliding window."""
    config = hf.MistralConfig(
        attn_implementation=attention, use_cache=False, sliding_window=4, **_grouped()
    )
    return _decoder(hf.MistralForCausalLM(config), size)


def qwen3(size: Size, attention: str) -> Export:
    """Score the next token: llama with a normalisation of each query and key."""
    config = hf.Qwen3Config(attn_implementation=attention, use_cache=False, **_grouped())
    return _decoder(hf.Qwen3ForCausalLM(config), size)


def bart(_size: Size, attention: str) -> Export:
    """Translate: encoder, decoder, and attention from one to the other."""
    sides = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in _SIDE}
    config = hf.BartConfig(
        attn_implementation=attention,
        d_model=16,
        vocab_size=50,
        max_position_embeddings=32,
        use_cache=False,
        **_TOKENS,
        **sides,
    )
    return _translator(hf.BartForConditionalGeneration(config))


def t5(_size: Size, attention: str) -> Export:
    """Translate: RMSNorm, and a bias that depends on the distance of two tokens."""
    config = hf.T5Config(
        attn_implementation=attention,
        d_model=24,
        d_kv=8,
        d_ff=40,
        num_heads=3,
        num_layers=2,
        vocab_size=50,
        use_cache=False,
        decoder_start_token_id=0,
    )
    return _translator(hf.T5ForConditionalGeneration(config))


ARCHITECTURES: dict[str, Callable[[Size, str], Export]] = {
    each.__name__: each
    for each in (
        *(bert, distilbert, vit, gpt2, llama, resnet50, mobilenet_v2),
        *(gpt2_cache, llama_cache, gpt_neox, mistral, qwen3, bart, t5),
    )
}

_TOKENS = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
_SIDE = (("layers", 2), ("attention_heads", 2), ("ffn_dim", 40))


def _widths(**others: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    sizes |= {"intermediate_size": 40, "vocab_size": 50, **others}
    return {name: value for name, value in sizes.items() if value is not None}


def _grouped() -> dict[str, Any]:
    """Return widths with four heads that share two keys and values."""
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    return _widths(max_position_embeddings=32, **heads)


def _gpt2(size: Size, attention: str) -> torch.nn.Module:
    sizes = {"n_embd": 24, "n_layer": 2, "n_head": 3, "vocab_size": 50, "n_positions": 32}
    sizes |= {"bos_token_id": 0, "eos_token_id": 0}
    config = hf.GPT2Config(attn_implementation=attention, **(sizes if size == "tiny" else {}))
    return hf.GPT2LMHeadModel(config)


def _llama(size: Size, attention: str) -> torch.nn.Module:
    sizes: dict[str, Any] = {"hidden_size": 512, "num_hidden_layers": 6}
    sizes |= {"num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 1376}
    sizes |= {"vocab_size": 8000, "max_position_embeddings": 512}
    config = hf.LlamaConfig(
        attn_implementation=attention, **(_grouped() if size == "tiny" else sizes)
    )
    return hf.LlamaForCausalLM(config)


def _encoder(model: torch.nn.Module, size: Size) -> Export:
    return _of_tokens(model, size, "last_hidden_state", {})


def _decoder(model: torch.nn.Module, size: Size) -> Export:
    return _of_tokens(model, size, "logits", {"use_cache": False})


def _of_tokens(model: torch.nn.Module, size: Size, output: str, options: dict[str, Any]) -> Export:
    def call(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found = model(input_ids=ids, attention_mask=mask, **options)
        return getattr(found, output)

    ids = torch.randint(0, 50, (BATCH, SEQUENCE if size == "tiny" else 128))
    axes = {0: "batch", 1: "sequence"}
    return Export(
        module=Called(model, call),
        inputs={"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        dynamic={"input_ids": axes, "attention_mask": axes},
        outputs=(output,),
    )


def _classifier(model: torch.nn.Module, size: Size) -> Export:
    edge = 32 if size == "tiny" else 224
    return Export(
        module=Called(model, lambda model, pixels: model(pixel_values=pixels).logits),
        inputs={"pixel_values": torch.randn(BATCH, 3, edge, edge)},
        dynamic={"pixel_values": {0: "batch"}},
        outputs=("logits",),
    )


def _cached(model: torch.nn.Module, *, heads: int, width: int) -> Export:
    """Return a decoder of two layers whose keys and values are inputs and outputs."""

    def call(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor, *past: Any) -> Any:
        cache = DynamicCache()
        for key, value in zip(past[::2], past[1::2], strict=True):
            layer = DynamicLayer()
            layer.lazy_initialization(key, value)
            layer.keys, layer.values = key, value
            cache.layers.append(layer)
        found = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        layers = found.past_key_values.layers
        return (found.logits, *(side for each in layers for side in (each.keys, each.values)))

    names = [f"{layer}.{side}" for layer in range(2) for side in ("key", "value")]
    ids = torch.randint(0, 50, (BATCH, 3))
    inputs = {"input_ids": ids, "attention_mask": torch.ones(BATCH, PAST + 3, dtype=ids.dtype)}
    dynamic = {
        "input_ids": {0: "batch", 1: "sequence"},
        "attention_mask": {0: "batch", 1: "total"},
    }
    for name in names:
        inputs[f"past.{name}"] = torch.randn(BATCH, heads, PAST, width)
        dynamic[f"past.{name}"] = {0: "batch", 2: "past"}
    return Export(
        module=Called(model, call),
        inputs=inputs,
        dynamic=dynamic,
        outputs=("logits", *(f"present.{name}" for name in names)),
    )


def _translator(model: torch.nn.Module) -> Export:
    def call(
        model: torch.nn.Module, source: torch.Tensor, mask: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        return model(
            input_ids=source, attention_mask=mask, decoder_input_ids=target, use_cache=False
        ).logits

    source = torch.randint(3, 50, (BATCH, SOURCE))
    axes = {0: "batch", 1: "source"}
    return Export(
        module=Called(model, call),
        inputs={
            "input_ids": source,
            "attention_mask": torch.ones_like(source),
            "decoder_input_ids": torch.randint(3, 50, (BATCH, SEQUENCE)),
        },
        dynamic={
            "input_ids": axes,
            "attention_mask": axes,
            "decoder_input_ids": {0: "batch", 1: "sequence"},
        },
        outputs=("logits",),
    )
