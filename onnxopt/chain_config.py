"""What `optimize` is asked to do after what is exact, checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from onnxopt.config import OptimizeConfig, QuantizeConfig
from onnxopt.errors import OnnxOptError
from onnxopt.prune_config import PruneConfig


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """What `optimize` does after what is exact: take out a share of all channels, make int8.

    `learn` is how many passes the pruned model learns in. Samples, metric and gates are as in
    `PruneConfig` and `QuantizeConfig`; they hold after each of the two, against the model that was
    given.
    """

    prune: float | None = None
    learn: int = 0
    quantize: bool = False
    random_data: bool = False
    min_sqnr: float | None = None
    metric: str | Callable[[Any], float] | None = None
    max_drop: float | None = None

    def __bool__(self) -> bool:
        return self.prune is not None or self.quantize

    def check(self, *, samples: bool) -> None:
        """Raise `OnnxOptError` unless there are samples, and something that they are for."""
        given = samples or self.random_data or self.min_sqnr is not None or self.metric is not None
        if given and not self:
            raise OnnxOptError(
                "samples, a metric and --min-sqnr are for what is not exact",
                "give --prune 0.3, --quantize or both; what is exact is tried on --data",
            )
        if self.learn and self.prune is None:
            raise OnnxOptError(
                "--learn is for a model that was pruned", "give --prune 0.3, or leave out --learn"
            )
        if self and not (samples or self.random_data):
            raise OnnxOptError(
                "pruning and int8 need samples of what the model will meet",
                "give --calibration PATH; --random-data only tries out the speed",
            )

    def pruning(self, exact: OptimizeConfig) -> PruneConfig | None:
        """Return how to prune what was optimized as `exact` says; None where that is not asked."""
        if self.prune is None:
            return None
        # What fused operators take in could become int8 no more.
        target = exact.target.plain() if self.quantize else exact.target
        return PruneConfig(
            target=target, sparsity=self.prune, learn=self.learn, **self._shared(exact)
        )

    def quantizing(self, exact: OptimizeConfig) -> QuantizeConfig | None:
        """Return how to make it int8, likewise."""
        if not self.quantize:
            return None
        return QuantizeConfig(target=exact.target, **self._shared(exact))

    def _shared(self, exact: OptimizeConfig) -> dict[str, Any]:
        names = ("random_data", "min_sqnr", "metric", "max_drop")
        own = {name: getattr(self, name) for name in names}
        return own | {"measure": exact.measure, "seed": exact.seed}
