"""Says what is in a model: its nodes, who would run them, what they cost, what to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from onnxopt import costs
from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import RULE_KEY
from onnxopt.graph.finite import not_finite
from onnxopt.graph.profile import macs, parameters
from onnxopt.graph.signature import spec_of
from onnxopt.report import InspectReport, NodeInfo, Profile
from onnxopt.text import plural


def inspect(
    model: ir.Model,
    source: Path,
    profile: Profile,
    providers: Sequence[str],
    predicted: costs.Prediction | None = None,
) -> InspectReport:
    """Describe a model whose shapes were inferred, as it stands in its file `source`."""
    takers: dict[str, str] = {}
    placed = {name: _placement(source, name, takers) for name in providers}
    told = predicted or costs.Prediction()
    nodes = tuple(
        NodeInfo(
            name=node.name or "",
            op=node.op_type,
            domain=node.domain,
            graph=graph.name or "",
            outputs=tuple(spec_of(value) for value in node.outputs),
            macs=macs(node),
            parameters=parameters(node),
            rule=node.metadata_props.get(RULE_KEY),
            provider=takers.get(node.name or ""),
            cost=told.nodes.get(id(node)),
        )
        for graph, _ in facts.scopes(model)
        for node in graph
    )
    return InspectReport(
        profile=profile,
        nodes=nodes,
        placement=placed,
        warnings=(*remarks(model), *told.remarks),
        costs=told.operators,
        sizes=told.sizes,
        assumed=told.assumed,
    )


def _placement(path: Path, provider: str, takers: dict[str, str]) -> dict[str, int] | str:
    """Ask onnxruntime who takes which node of the model as it stands in its file.

    `takers` learns node name to provider, from the first provider that is asked.
    """
    from onnxopt.runtime.sessions.session import assignments, open_session, placement

    try:
        session = open_session(path, provider=provider, optimize="none")
    except OnnxOptError as error:
        return str(error)
    if not takers:
        takers.update({name: taker for name, _, taker in assignments(session) if name})
    return placement(session)


def remarks(model: ir.Model) -> Iterator[str]:
    """Yield what the user of a model should know about its content."""
    overridable = [v.name for v in model.graph.inputs if v.is_initializer()]
    if overridable:
        yield (
            f"{len(overridable)} weights are also inputs ({overridable[0]}, …): callers may "
            "override them, so nothing that reads them is folded"
        )
    strange = not_finite(model)
    if strange:
        yield (
            f"{plural(len(strange), 'weight')} with NaN or infinity, kept as they are: "
            f"{', '.join(strange[:3])}{', …' if len(strange) > 3 else ''}"
        )
    unknown = {
        node.domain
        for graph, _ in facts.scopes(model)
        for node in graph
        if node.domain not in (*_DOMAINS, io.KEPT)
        and (node.domain, node.op_type, "") not in model.functions
    }
    if unknown:
        yield f"operators of unknown domains were left as they are: {', '.join(sorted(unknown))}"


_DOMAINS = frozenset(
    {
        *("", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"),
        *("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental"),
    }
)
