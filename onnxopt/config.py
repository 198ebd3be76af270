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
        for name, known in (
            ("method", METHODS),
            ("rounding", ROUNDINGS),
            ("isa", ISAS),
            ("format", FORMATS),
        ):
            _check_known(name, (getattr(self, name),), known)
        _check_known("repair", self.without, REPAIRS)
        if not self.repairs("rounding") and self.rounding in ("gptq", "adaround"):
            raise OnnxOptError(
                f"without the repair rounding there is nothing for {self.rounding} to do",
                f"leave out --no-repair rounding, or --rounding {self.rounding}",
            )
        _check_drop(self.metric, self.max_drop)

    def allows(self, *names: str) -> bool:
        """Tell whether what goes by any of `names`, nodes or operators, may become int8."""
        wanted = not self.only or any(name in self.only for name in names)
        return wanted and not any(name in self.skip for name in names)

    def repairs(self, name: str) -> bool:
        """Tell whether the repair called `name` may be tried."""
        return name not in self.without


STRUCTURES = ("element", "2:4", "channel", "block", "rank")
"""What is taken out: single weights, two of four, channels, whole sub-networks, rank."""
IMPORTANCES = ("auto", "l1", "l2", "activation", "wanda", "obs", "batchnorm", "random")
"""What decides which go first; `auto`: `obs` with samples, `l2` without."""
SCOPES = ("layer", "global")
SOLVERS = ("exact", "descent", "momentum", "adagrad", "rmsprop", "adam")
"""How what is left is refitted: in closed form, or by gradient steps."""


@dataclass(frozen=True, kw_only=True)
class PruneConfig:
    """The options of `prune`.

    One of `sparsity` (share of elements, units or blocks that go, in [0, 1)), `threshold` (what is
    less important goes), `target_latency`, `target_macs` (shares of the model's that may be left)
    and `mask` (an earlier decision, `masks.npz`) says how much goes. `scope` spreads `sparsity`
    over each layer alone or over all. `protect` names nodes and tensors that stay as they are.
    `ridge` is a share of a Gram matrix's mean diagonal; None: chosen on held-out samples. `teach`
    adds a last pass against the blocks of the model that was given, `learn` so many passes of
    gradient steps through all layers against its outputs. `rounds` parts what goes into several
    rounds, each with all of these. `multiple` is what widths are cut to;
    None: what the target's kernels like. `mask_out` keeps the decision beside a model that is left
    as it is. Samples, metric and gates are as in `QuantizeConfig`, but that only what `shrinks` has
    to be faster.
    """

    target: Target = TARGETS["portable"]
    structure: str = "channel"
    sparsity: float | None = None
    threshold: float | None = None
    target_latency: float | None = None
    target_macs: float | None = None
    importance: str = "auto"
    scope: str = "global"
    protect: tuple[str, ...] = ()
    refit: bool = True
    solver: str = "exact"
    ridge: float | None = None
    teach: bool = False
    learn: int = 0
    rounds: int = 1
    multiple: int | None = None
    mask: str | None = None
    mask_out: str | None = None
    min_sqnr: float | None = None
    max_slowdown: float | None = None
    metric: str | Callable[[Any], float] | None = None
    max_drop: float | None = None
    samples: int | None = None
    max_memory: int = 0
    random_data: bool = False
    measure: bool = True
    threads: int | None = None
    anyway: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (
            ("structure", STRUCTURES),
            ("importance", IMPORTANCES),
            ("solver", SOLVERS),
            ("scope", SCOPES),
        ):
            _check_known(name, (getattr(self, name),), known)
        if self.sparsity is not None and not 0 <= self.sparsity < 1:
            raise OnnxOptError(f"sparsity {self.sparsity:g} is not in [0, 1)", "0.5 is a half")
        for name in ("target_latency", "target_macs"):
            share = getattr(self, name)
            if share is not None and not 0 < share < 1:
                raise OnnxOptError(
                    f"{name} {share:g} is not between 0 and 1",
                    "0.7 leaves seven tenths of the model's",
                )
        if len(self._amounts()) > 1:
            raise OnnxOptError(
                f"{' and '.join(self._amounts())} exclude each other", "give one of them"
            )
        self._check_structure()
        self._check_rounds()
        taught = self.teach or self.learn > 0
        if not self.refit and (taught or self.ridge is not None or self.solver != "exact"):
            raise OnnxOptError(
                "without a refit there is nothing to solve or to teach",
                "leave out --no-refit, or --solver, --ridge, --teach and --learn",
            )
        if self.learn < 0:
            raise OnnxOptError(f"{self.learn} passes cannot be learned", "give --learn 8")
        _check_drop(self.metric, self.max_drop)

    def _check_rounds(self) -> None:
        """Refuse rounds that nothing could tell apart."""
        if self.rounds < 1:
            raise OnnxOptError(f"{self.rounds} rounds take nothing out", "give --rounds 2")
        if self.rounds == 1:
            return
        if self.structure != "channel" or not self.refit:
            raise OnnxOptError(
                "rounds are for channels that are refitted in between",
                "leave --rounds out, or give --structure channel without --no-refit",
            )
        shares = (self.sparsity, self.target_macs, self.target_latency)
        if self.mask_out is not None or all(share is None for share in shares):
            raise OnnxOptError(
                "rounds share out a sparsity or a target, and leave no masks of the whole model",
                "give --sparsity, --target-macs or --target-latency, without --mask-out",
            )

    def _amounts(self) -> list[str]:
        """Name what says how much goes."""
        known = ("sparsity", "threshold", "target_latency", "target_macs", "mask")
        return [name for name in known if getattr(self, name) is not None]

    def _check_structure(self) -> None:
        """Refuse what does not go with the structure."""
        given = self._amounts()
        if self.structure == "2:4" and given not in ([], ["mask"]) and self.sparsity != 0.5:
            raise OnnxOptError(
                f"2:4 takes two of every four: {given[0]} cannot say how much goes",
                f"leave --{given[0].replace('_', '-')} out",
            )
        if self.structure == "element" and given and given[0].startswith("target"):
            raise OnnxOptError(
                f"zeros take no work away: {given[0]} cannot be reached by structure element",
                "give --structure channel",
            )
        if self.structure in ("rank", "block") and (self.mask or self.mask_out) is not None:
            raise OnnxOptError(
                f"structure {self.structure} has no masks: it replaces what it takes out",
                "masks are for channels and weights",
            )
        if self.teach and self.structure not in ("channel", "block"):
            raise OnnxOptError(
                f"a last pass would undo what structure {self.structure} made",
                "leave --teach out, or give --structure channel or block",
            )
        if self.solver != "exact" and self.structure != "channel":
            raise OnnxOptError(
                f"structure {self.structure} is solved in its own way, not by {self.solver}",
                "leave --solver out, or give --structure channel",
            )
        if self.mask is not None and self.mask_out is not None:
            raise OnnxOptError("a mask would only be copied", "give --mask or --mask-out")
        if self.importance == "batchnorm" and self.structure != "channel":
            raise OnnxOptError(
                f"importance batchnorm tells of channels, not of structure {self.structure}",
                "give --structure channel, or another --importance",
            )

    @property
    def shrinks(self) -> bool:
        """Whether tensors get smaller, which every runtime gains by; zeros alone few do."""
        return self.structure in ("channel", "block", "rank")

    def needs_samples(self) -> str:
        """Name the option that samples are needed for; empty where none is.

        Magnitude, BatchNormalization's scales and chance need none, as long as nothing is refitted
        and no error is asked for.
        """
        reasons = {
            f"--structure {self.structure}": self.structure in ("block", "rank"),
            f"--importance {self.importance}": self.importance in ("activation", "wanda", "obs"),
            "--target-latency": self.target_latency is not None,
            "--target-macs": self.target_macs is not None,
            "--min-sqnr": self.min_sqnr is not None,
            "refitting what is left": self.refit,
        }
        return next((what for what, needed in reasons.items() if needed), "")

    def check(self, *, samples: bool) -> None:
        """Raise `OnnxOptError` unless it is said how much goes, and samples are there if needed.

        2:4 is a half by itself, and blocks may go as long as `min_sqnr` holds.
        """
        by_error = self.structure == "block" and self.min_sqnr is not None
        if not self._amounts() and self.structure != "2:4" and not by_error:
            raise OnnxOptError(
                "nothing says how much is to go",
                "give --sparsity 0.5, --threshold, --target-latency 0.7 or --target-macs 0.5",
            )
        what = self.needs_samples()
        if what and not (samples or self.random_data):
            without = ", or do without: --no-refit" if what.startswith("refitting") else ""
            raise OnnxOptError(
                f"{what} needs samples of what the model will meet",
                f"give --calibration PATH{without}",
            )


def _check_drop(metric: object, max_drop: float | None) -> None:
    if max_drop is not None and metric is None:
        raise OnnxOptError(
            "a drop of nothing cannot be limited", "give --metric file.py:function, too"
        )


def _check_known(what: str, names: Iterable[str], known: tuple[str, ...]) -> None:
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
