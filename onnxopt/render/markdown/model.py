"""What is in a model, as Markdown."""

from __future__ import annotations

from onnxopt.render import predictions, rows
from onnxopt.render.markdown.blocks import bullets, code, folded, join, table, warnings
from onnxopt.render.words import file_name, macs_text, opset_text, share_text, tensor_text
from onnxopt.report import InspectReport
from onnxopt.text import human_bytes, human_count


def inspect(report: InspectReport) -> str:
    """Write the signature, the operators with their cost, and the placement."""
    profile = report.profile
    sizes = f"{human_count(profile.parameters)} parameters, {human_bytes(profile.file_bytes)}"
    work = f"{profile.nodes:,} nodes, {macs_text(profile.macs)} MACs"
    facts = [f"opset {opset_text(profile.opset)}, {work}, {sizes}"]
    if profile.dynamic_dims:
        facts.append(f"free dimensions: {', '.join(profile.dynamic_dims)}")
    facts += [f"input {t.name}: {tensor_text(t)}" for t in profile.inputs]
    facts += [f"output {t.name}: {tensor_text(t)}" for t in profile.outputs]
    facts += [f"on {name}: {rows.placement_text(p)}" for name, p in report.placement.items()]
    gathered = rows.operators(report)
    whole = sum(each.macs for each in gathered)
    operators = table(
        ("operator", "count", "parameters", "MACs", "share"),
        (
            (
                each.op,
                f"{each.nodes:,}",
                human_count(each.parameters),
                human_count(each.macs),
                share_text(each.macs, whole),
            )
            for each in gathered
        ),
        left=1,
    )
    title = f"### {code(file_name(profile))}"
    costs = _costs(report) if report.costs else ""
    return join([title, bullets(facts), operators, costs, warnings(report.warnings)])


def _costs(report: InspectReport) -> str:
    """Write what operators are predicted to take, and the costliest nodes folded away."""
    operators = table(
        ("operator", "count", *predictions.NUMBERS),
        (
            (op, f"{cost.count:,}", *predictions.numbers(cost))
            for op, cost in predictions.operators(report)
        ),
        left=1,
    )
    cells = predictions.node_cells(report.nodes)[: predictions.SHOWN]
    nodes = table(
        ("node", "operator", *predictions.NUMBERS),
        ((each[-1], each[-2], *each[:-2]) for each in cells),
        left=2,
    )
    folded_nodes = folded("Costliest nodes", nodes)
    return "\n\n".join([bullets([predictions.headline(report)]), operators, folded_nodes])
