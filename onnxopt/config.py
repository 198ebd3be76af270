"""What a run is asked to do: the target and the options, checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

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

    def plain(self) -> Target:
        """Return it with standard operators only, which is what can be pruned and made int8."""
        portable = TARGETS["portable"]
        return replace(self, domains=portable.domains, opset=portable.opset)


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


METHODS = ("auto", "minmax", "percentile", "entropy", "mse")
"""How the range of a tensor is chosen; `auto` takes the one with the least error, by tensor."""
ROUNDINGS = ("descent", "gptq", "adaround", "nearest")
"""How weights are rounded; all but `nearest` so that errors cancel on what the layer reads."""
FORMATS = ("qdq", "qoperator")
ISAS = ("auto", "native", "vnni", "avx512", "avx2", "amx", "neon-dot", "neon")
"""Instruction sets, `native` being those of this machine; `auto` is that for targets that are
measured here, and what is safe everywhere for `portable`."""
REPAIRS = ("equalization", "smoothing", "splitting", "rounding", "bias", "saturation")
"""What is done for accuracy; each can be left out."""


@dataclass(frozen=True, kw_only=True)
class QuantizeConfig:
    """The options of `quantize`.

    `max_memory` are bytes that statistics may take; 0: a gigabyte, and more for a model larger than
    a fifth of that. `min_sqnr` is in dB, on held-out samples.
    `max_slowdown` is the share by which the result may be slower than the model; None: it has to
    be faster. `fastest` wants the fastest choice that holds every gate, however accurate. `metric`
    is `file.py:function` or a function that takes `predict` (a feed to the outputs by name) and
    returns a number, the higher the better, of which `max_drop` may be lost. `samples` is how many
    are read at most. `only` and `skip` hold names of nodes and operators, `without` those of
    `REPAIRS`; without the repair `rounding` it is to the nearest, and samples are not asked. With
    `anyway` the result is written though a gate fails.
    """

    target: Target = TARGETS["cpu"]
    method: str = "auto"
    rounding: str = "descent"
    isa: str = "auto"
    format: str = "qdq"
    max_memory: int = 0
    min_sqnr: float | None = None
    max_slowdown: float | None = None
    fastest: bool = False
    metric: str | Callable[[Any], float] | None = None
    max_drop: float | None = None
    samples: int | None = None
    statistics: str | None = None
    save_statistics: str | None = None
    random_data: bool = False
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    measure: bool = True
    threads: int | None = None
    anyway: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_choices(self, method=METHODS, rounding=ROUNDINGS, isa=ISAS, format=FORMATS)
        check_known("repair", self.without, REPAIRS)
        if not self.repairs("rounding") and self.rounding in ("gptq", "adaround"):
            raise OnnxOptError(
                f"without the repair rounding there is nothing for {self.rounding} to do",
                f"leave out --no-repair rounding, or --rounding {self.rounding}",
            )
        check_drop(self.metric, self.max_drop)

    def allows(self, *names: str) -> bool:
        """Tell whether what goes by any of `names`, nodes or operators, may become int8."""
        wanted = not self.only or any(name in self.only for name in names)
        return wanted and not any(name in self.skip for name in names)

    def repairs(self, name: str) -> bool:
        """Tell whether the repair called `name` may be tried."""
        return name not in self.without


def check_drop(metric: object, max_drop: float | None) -> None:
    """Raise `OnnxOptError` for a drop of nothing."""
    if max_drop is not None and metric is None:
        raise OnnxOptError(
            "a drop of nothing cannot be limited", "give --metric file.py:function, too"
        )


def check_choices(config: object, **known: tuple[str, ...]) -> None:
    """Raise `OnnxOptError` for an option, called as its choices are, that is none of them."""
    for name, choices in known.items():
        check_known(name, (getattr(config, name),), choices)


def check_known(what: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    """Raise `OnnxOptError` for a name that is not known."""
    for name in names:
        if name not in known:
            raise OnnxOptError(f"unknown {what} {name!r}", near_matches(name, known))


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
