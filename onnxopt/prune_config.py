"""What `prune` is asked to do, checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnxopt.config import TARGETS, Target, check_choices, check_drop
from onnxopt.errors import OnnxOptError

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
    gradient steps through all layers against its outputs. `multiple` is what widths are cut to;
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
        check_choices(
            self, structure=STRUCTURES, importance=IMPORTANCES, solver=SOLVERS, scope=SCOPES
        )
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
        taught = self.teach or self.learn > 0
        if not self.refit and (taught or self.ridge is not None or self.solver != "exact"):
            raise OnnxOptError(
                "without a refit there is nothing to solve or to teach",
                "leave out --no-refit, or --solver, --ridge, --teach and --learn",
            )
        if self.learn < 0:
            raise OnnxOptError(f"{self.learn} passes cannot be learned", "give --learn 8")
        check_drop(self.metric, self.max_drop)

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
