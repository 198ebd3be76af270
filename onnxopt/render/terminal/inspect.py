"""What is in a model, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from onnxopt.render import predictions, rows
from onnxopt.render.terminal.blocks import (
    CARE,
    FAINT,
    LongTable,
    file_line,
    heading,
    line,
    notes,
    row,
    section,
    table,
)
from onnxopt.render.words import (
    macs_text,
    op_text,
    opset_text,
    share_text,
    size_text,
    tensor_text,
)
from onnxopt.report import InspectReport, NodeInfo, Profile
from onnxopt.text import human_bytes, human_count

COSTLIEST = 10
_NODE_COLUMNS = ("MACs", "share", "params", "operator", "output", "node")


def report(result: InspectReport, *, nodes: bool = False) -> RenderableType:
    """Show file, signature, operators, the costliest nodes (or every node) and the placement."""
    whole = sum(node.macs or 0 for node in result.nodes)
    parts: list[RenderableType] = [
        line(file_line(result.profile), "bold"),
        _header(result.profile),
        line(""),
        section("Operators", *_operators(result, whole)),
    ]
    if result.costs:
        parts += _costs(result, every=nodes)
    elif nodes:
        every = LongTable(_NODE_COLUMNS, _node_cells(result.nodes, whole), numbers=3)
        parts += [heading("Nodes"), every, line("")]
    elif top := rows.costliest(result.nodes, COSTLIEST):
        title = "Most costly nodes" if len(top) > 1 else "Most costly node"
        parts.append(section(title, _top(top, whole)))
    if result.placement:
        parts.append(
            section("Placement, of the nodes as onnxruntime divides them", _placement(result))
        )
    parts += notes(result.warnings)
    return Group(*parts)


def _header(profile: Profile) -> RenderableType:
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True, style=FAINT)
    made.add_column(overflow="fold")
    row(made, ("opset", opset_text(profile.opset)))
    weights = f"{human_count(profile.parameters)} parameters"
    row(made, ("weights", f"{weights}, {human_bytes(profile.parameter_bytes)}"))
    if profile.dynamic_dims:
        row(made, ("free dims", ", ".join(profile.dynamic_dims)))
    for kind, tensors in (("input", profile.inputs), ("output", profile.outputs)):
        for tensor in tensors:
            row(made, (kind, f"{tensor.name}  {tensor_text(tensor)}"))
    return made


def _operators(result: InspectReport, whole: int) -> list[RenderableType]:
    profile = result.profile
    numbers = ("count", "params", "MACs", "share")
    made = table("operator", *numbers, right=numbers)
    for each in rows.operators(result):
        cells = (
            each.op,
            f"{each.nodes:,}",
            human_count(each.parameters) if each.parameters else "",
            human_count(each.macs) if each.macs else "",
            share_text(each.macs, whole),
        )
        row(made, cells)
    total = (
        "total",
        f"{profile.nodes:,}",
        human_count(profile.parameters),
        macs_text(profile.macs),
        "",
    )
    row(made, total, "bold")
    parts: list[RenderableType] = [made]
    if profile.dynamic_dims and profile.macs:
        parts.append(line("MACs (multiply-accumulates) with every free dimension as 1", FAINT))
    if sum(node.parameters for node in result.nodes) > profile.parameters:
        parts.append(line("parameters with several readers count for each, once in total", FAINT))
    return parts


def _costs(result: InspectReport, *, every: bool) -> list[RenderableType]:
    """Show what operators and nodes are predicted to take, the costliest first."""
    columns = (*predictions.NUMBERS, "count", "operator")
    gathered = table(*columns, right=columns[:-1])
    for op, cost in predictions.operators(result):
        row(gathered, (*predictions.numbers(cost), f"{cost.count:,}", op))
    said = line(predictions.headline(result), FAINT)
    parts = [section("Predicted costs by operator", gathered, said)]
    header = (*predictions.NUMBERS, "operator", "node")
    cells = predictions.node_cells(result.nodes)
    if every:
        listed = LongTable(header, cells, numbers=len(predictions.NUMBERS))
        return [*parts, heading("Predicted costs by node"), listed, line("")]
    made = table(*header, right=predictions.NUMBERS)
    for each in cells[: predictions.SHOWN]:
        row(made, each)
    return [*parts, section("Predicted costs by node", made)]


def _top(nodes: Sequence[NodeInfo], whole: int) -> RenderableType:
    made = table(*_NODE_COLUMNS, right=_NODE_COLUMNS[:3])
    for cells in _node_cells(nodes, whole):
        row(made, cells)
    return made


def _node_cells(nodes: Sequence[NodeInfo], whole: int) -> list[tuple[str, ...]]:
    return [
        (
            human_count(node.macs) if node.macs else "",
            share_text(node.macs or 0, whole),
            human_count(node.parameters) if node.parameters else "",
            op_text(node),
            size_text(node.outputs[0].shape) if node.outputs else "",
            node.name,
        )
        for node in nodes
    ]


def _placement(result: InspectReport) -> RenderableType:
    made = Table.grid(padding=(0, 2, 0, 0))
    for provider, placement in result.placement.items():
        style = CARE if isinstance(placement, str) else ""
        row(made, (provider, rows.placement_text(placement)), style)
    return made
