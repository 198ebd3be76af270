"""Exports one model: `export.py MODEL SIZE EXPORTER ATTENTION OUT`, in an environment with torch.

The weights are random, from a fixed seed. Biases are not zero and the scales of normalisations are
not one, or an optimizer would drop what it can never drop in a trained model.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import onnx
import torch
from architectures import ARCHITECTURES, Export, Size

OPSET = {"script": 17, "dynamo": None}  # the last one that suits the old exporter; the default


def export(wanted: Export, exporter: str, out: Path) -> None:
    """Write `wanted` to `out`, by `torch.onnx.export` in the old (script) or new (dynamo) way."""
    names = {"input_names": list(wanted.inputs), "output_names": list(wanted.outputs)}
    tensors = tuple(wanted.inputs.values())
    with torch.no_grad():
        if exporter == "script":
            axes = {name: axes for name, axes in wanted.dynamic.items() if axes}
            torch.onnx.export(
                wanted.module,
                tensors,
                str(out),
                dynamo=False,
                opset_version=OPSET[exporter],
                dynamic_axes=axes,
                **names,
            )
            return
        torch.onnx.export(
            wanted.module,
            tensors,
            str(out),
            dynamo=True,
            opset_version=OPSET[exporter],
            external_data=False,
            verbose=False,
            dynamic_shapes=(tuple(wanted.dynamic[name] for name in wanted.inputs),),
            **names,
        )


def strip(path: Path) -> None:
    """Take out what names the Python source: most of a tiny model's bytes, and of no effect."""
    model = onnx.load(path)
    graph = model.graph
    parts = (model, graph, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for part in (*parts, *graph.node):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    kept = {"", *(value.name for value in (*graph.input, *graph.output, *graph.initializer))}
    short: dict[str, str] = {}
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for place, name in enumerate(node.output):
            short[name] = name if name in kept else f"v{number}.{place}" if place else f"v{number}"
    for node in graph.node:
        assert all(each.type != onnx.AttributeProto.GRAPH for each in node.attribute)
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short[name] for name in node.output]
    for value in graph.value_info:
        value.name = short.get(value.name, value.name)
    onnx.save(model, path)


def scatter_weights(module: torch.nn.Module) -> None:
    """Give parameters and running statistics values such as training leaves them with.

    Matrices are large enough for attention to prefer some tokens to others: with transformers' own
    initialization its scores are all but zero, and a wrong scale or mask would hardly show.
    """
    norms = ("norm", "ln_", "layernorm", "bn")
    for name, parameter in module.named_parameters():
        owner, _, leaf = name.rpartition(".")
        kind = type(module.get_submodule(owner)).__name__.lower()
        is_norm = "norm" in kind or any(part in owner.rpartition(".")[2].lower() for part in norms)
        if is_norm and leaf == "weight":
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif is_norm or leaf == "bias":
            torch.nn.init.normal_(parameter, std=0.1)
        else:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.running_mean, std=0.1)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)


def main(name: str, size: Size, exporter: str, attention: str, out: str) -> None:
    """Build the model from its configuration and export it."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    wanted = ARCHITECTURES[name](size, attention)
    scatter_weights(wanted.module)
    wanted.module.eval()
    export(wanted, exporter, Path(out))
    if size == "tiny":
        strip(Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
