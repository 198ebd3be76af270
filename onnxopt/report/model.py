"""What is in a model: its signature, its size, its nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from onnxopt.report.plain import plain


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A graph input or output: a dimension is a size, a name, or None where nothing is known."""

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is in a model and what it costs.

    `nodes` counts every node, those of nested graphs and functions and Constant nodes included.
    `macs` are multiply-accumulates of one run with every unknown dimension taken as 1; None where
    nothing could be told.
    """

    path: str | None
    sha256: str | None
    file_bytes: int
    nodes: int
    ops: dict[str, int]
    parameters: int
    parameter_bytes: int
    macs: int | None
    opset: dict[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dynamic_dims: tuple[str, ...]
    macs_per_op: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run of a node, or of all nodes of one operator, is predicted to take.

    `intensity` is the operations (two for each multiply-accumulate) per byte moved. `ms` follows
    from fixed speeds of a processor or device, not from this machine: it is good for the `share` of
    the whole model. None where it cannot be told.
    """

    count: int
    macs: int | None
    bytes: int | None
    intensity: float | None
    ms: float
    share: float


@dataclass(frozen=True, kw_only=True)
class NodeInfo:
    """One node as `inspect` shows it."""

    name: str
    op: str
    domain: str
    graph: str
    outputs: tuple[TensorSpec, ...]
    macs: int | None
    parameters: int
    rule: str | None = None
    provider: str | None = None
    cost: Cost | None = None


@dataclass(frozen=True, kw_only=True)
class InspectReport:
    """What is in a model, what each node costs, and which provider would take it.

    `placement` maps a requested provider to {provider that took the node: count}, or to an error
    in words where no session could be made. Where costs were asked for, `costs` has those of each
    operator, the costliest first, with the free dimensions of `sizes`, of which `assumed` were not
    given.
    """

    SCHEMA: ClassVar[str] = "onnxopt.inspect/1"

    profile: Profile
    nodes: tuple[NodeInfo, ...]
    placement: dict[str, dict[str, int] | str]
    warnings: tuple[str, ...]
    costs: dict[str, Cost] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": self.SCHEMA, **plain(self)}
