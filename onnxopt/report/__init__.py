"""What a run found: plain data that every renderer, the JSON files and the Python API share.

Units are in the names: `seconds`, `_ms`, `_ns`, `_bytes`, `_db`. `to_dict()` returns what
`docs/reports.md` documents; a float without a finite value becomes null, because JSON has none.
"""

from onnxopt.report.benchmark import (
    BenchmarkReport,
    BenchmarkResult,
    Best,
    Caution,
    Ceiling,
    Copies,
    Difference,
    Hotspot,
    Hotspots,
    Interval,
    Metric,
    Setting,
    Verdict,
)
from onnxopt.report.comparison import CompareReport, Comparison, OutputComparison
from onnxopt.report.model import Cost, InspectReport, NodeInfo, Profile, TensorSpec
from onnxopt.report.optimization import (
    ORIGINAL,
    RESULT,
    Decision,
    Measurement,
    OptimizeReport,
    Step,
    StepStatus,
)
from onnxopt.report.plain import plain

__all__ = [
    "ORIGINAL",
    "RESULT",
    "BenchmarkReport",
    "BenchmarkResult",
    "Best",
    "Caution",
    "Ceiling",
    "CompareReport",
    "Comparison",
    "Copies",
    "Cost",
    "Decision",
    "Difference",
    "Hotspot",
    "Hotspots",
    "InspectReport",
    "Interval",
    "Measurement",
    "Metric",
    "NodeInfo",
    "OptimizeReport",
    "OutputComparison",
    "Profile",
    "Setting",
    "Step",
    "StepStatus",
    "TensorSpec",
    "Verdict",
    "plain",
]
