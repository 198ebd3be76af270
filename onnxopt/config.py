"""What a run is asked to do: the target and the options, checked before any work starts."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxopt.errors import OnnxOptError
from onnxopt.text import near_matches


@dataclass(frozen=True, kw_only=True)
class Target:
    """The hardware and runtime that the result is made for.

    `domains` are the operator domains that rules may introduce; what is in the model already is
    always kept. `provider` is the execution provider on which the result is measured. `opset` is
    the newest operator set that a model is raised to without being asked: runtimes have known 20
    since 2023, while what onnxruntime itself gains by a newer one is held against the one that is
    installed.
    """

    name: str
    summary: str
    provider: str
    domains: frozenset[str] = frozenset({""})
    opset: int = 20


_LARGEST_DIM = 2**31

_CONTRIB = frozenset({"", "com.microsoft"})

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(name="portable", summary="standard operators only, for any runtime", provider="cpu"),
        Target(
            name="cpu",
            summary="ONNX Runtime on this processor",
            provider="cpu",
            domains=_CONTRIB,
            opset=23,
        ),
        Target(
            name="cuda", summary="ONNX Runtime on NVIDIA GPUs", provider="cuda", domains=_CONTRIB
        ),
        Target(
            name="tensorrt",
            summary="TensorRT, whose partitioner takes only standard operators",
            provider="tensorrt",
        ),
    )
}


def find_target(name: str) -> Target:
    """Return the target called `name`, or raise `OnnxOptError` with the near matches."""
    if name not in TARGETS:
        raise OnnxOptError(f"unknown target {name!r}", near_matches(name, TARGETS))
    return TARGETS[name]


@dataclass(frozen=True, kw_only=True)
class OptimizeConfig:
    """The options of `optimize`.

    `fix` maps a dimension name (`batch`) or an input's axis (`input_ids:1`) to a size. `only` and
    `skip` hold names of passes and rules. `opset` is the operator set to raise the model to; None
    leaves it to the rules, up to the target's. `max_growth` is the number of bytes by which folding
    may enlarge the file beyond what it saves. `measure_seconds` bounds the time that
    comparing the speed of two models may take.
    """

    target: Target = TARGETS["portable"]
    fix: dict[str, int] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    opset: int | None = None
    verify: bool = True
    measure: bool = True
    check: bool = False
    trace: bool = False
    seed: int = 0
    max_growth: int = 4096
    measure_seconds: float = 20.0

    def __post_init__(self) -> None:
        for name, size in self.fix.items():
            if not isinstance(size, int) or not 0 < size < _LARGEST_DIM:
                raise OnnxOptError(
                    f"dimension {name!r} cannot be fixed to {size!r}", "a size is 1 or more"
                )

    def allows(self, name: str) -> bool:
        """Tell whether the pass or rule called `name` may run."""
        return name not in self.skip and (not self.only or name in self.only)


def parse_fix(texts: tuple[str, ...] | list[str]) -> dict[str, int]:
    """Read `DIM=VALUE` options: `batch=1` or `input_ids:1=128`."""
    fixed: dict[str, int] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name.strip() or not value.strip().isdigit() or int(value) < 1:
            raise OnnxOptError(
                f"--fix {text!r} is not DIM=VALUE", "write --fix batch=1 or --fix input_ids:1=128"
            )
        if fixed.setdefault(name.strip(), int(value)) != int(value):
            raise OnnxOptError(f"--fix gives {name.strip()!r} two sizes", "give it one")
    return fixed


def parse_provider_options(texts: tuple[str, ...] | list[str]) -> dict[str, dict[str, str]]:
    """Read `PROVIDER.KEY=VALUE` options by provider: `tensorrt.trt_fp16_enable=1`.

    Whether a provider knows the key is not asked here: see `onnxopt.runtime.execution.presets`.
    """
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        provider, dot, key = (part.strip() for part in name.partition("."))
        if not (equals and dot and provider and key):
            raise OnnxOptError(
                f"--provider-option {text!r} is not PROVIDER.KEY=VALUE",
                "write --provider-option tensorrt.trt_fp16_enable=1",
            )
        given = options.setdefault(provider, {})
        if given.setdefault(key, value.strip()) != value.strip():
            raise OnnxOptError(
                f"--provider-option gives {provider}.{key} two values", "give it one"
            )
    return options
