"""What a benchmark is asked to do, checked before anything is measured."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxopt.errors import OnnxOptError
from onnxopt.report import Copies, Setting, plain
from onnxopt.runtime.execution.presets import captures_graphs, check_options
from onnxopt.runtime.execution.providers import known_as
from onnxopt.runtime.machine.isa import usable_cores

_COPIES: tuple[Copies, ...] = ("copied", "bound")
_MOST_SETTINGS = 1000
_LARGEST_BATCH = 2**31 - 1
# Each caller is a thread, too: more would starve whatever else runs on the machine.
_MOST_THREADS = 1024
_RATES = 1e-3, 1e6


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The options of `benchmark`; every combination of providers to io is a setting.

    `precision` is half the width of the interval that is wanted, as a share; `max_time` are the
    seconds for each setting, all its models together, and `timeout` those after which a process
    that says nothing is stopped. `provider_options` is by provider. With `aa` the first model is
    compared with itself as well. With `strict` a node that runs elsewhere than was asked is an
    error.
    """

    providers: tuple[str, ...] = ("cpu",)
    batches: tuple[int | None, ...] = (None,)
    threads: tuple[int | None, ...] = (None,)
    callers: tuple[int, ...] = (1,)
    rates: tuple[float | None, ...] = (None,)
    io: tuple[Copies, ...] = ("copied",)
    provider_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    data: str | None = None
    fix: Mapping[str, int] = field(default_factory=dict)
    precision: float = 0.02
    max_time: float = 30.0
    timeout: float = 120.0
    seed: int = 0
    aa: bool = False
    strict: bool = False
    profile: bool = False

    @classmethod
    def of(cls, **options: Any) -> Plan:
        """Return a plan of options as callers give them: any sequences, onnxruntime's names."""
        several = ("batches", "threads", "callers", "rates", "io")
        options.update({name: tuple(options[name]) for name in several if name in options})
        if "providers" in options:
            options["providers"] = tuple(map(known_as, options["providers"]))
        given = options.get("provider_options", {})
        options["provider_options"] = {known_as(name): dict(some) for name, some in given.items()}
        if options.get("data") is not None:
            options["data"] = str(options["data"])
        return cls(**options)

    def __post_init__(self) -> None:
        for name in ("providers", "batches", "threads", "callers", "rates", "io"):
            if not getattr(self, name):
                raise OnnxOptError(f"there are no {name} to measure with", "give one or more")
        _all("a batch of {}", self.batches, most=_LARGEST_BATCH)
        _all("{} threads", self.threads, most=_MOST_THREADS)
        _all("{} callers", self.callers, most=_MOST_THREADS)
        for rate in self.rates:
            if rate is not None and not _RATES[0] <= rate <= _RATES[1]:
                raise OnnxOptError(
                    f"{rate:g} requests a second cannot be measured",
                    f"give {_RATES[0]:g} to {_RATES[1]:,.0f}",
                )
        for io in self.io:
            if io not in _COPIES:
                raise OnnxOptError(f"inputs and outputs cannot be {io!r}", "say copied or bound")
        if not 0 < self.precision < 1:
            raise OnnxOptError(
                f"a precision of {self.precision:.0%} cannot be had", "give 0.5% to 50%"
            )
        if not (0 <= self.max_time < math.inf and 0 < self.timeout < math.inf):
            raise OnnxOptError("a time is below zero, or has no end", "give seconds")
        if len(self.settings()) > _MOST_SETTINGS:
            raise OnnxOptError(
                f"{len(self.settings())} settings are too many", "sweep fewer at a time"
            )
        for provider in self.providers:
            given = self.provider_options.get(provider, {})
            check_options(provider, given, io=self.io)
            if max(self.callers) > 1 and captures_graphs(provider, given):
                raise OnnxOptError(
                    f"a graph that {provider} captured has one caller", "leave out --callers"
                )
        unasked = set(self.provider_options) - set(self.providers)
        if unasked:
            raise OnnxOptError(
                f"options are given for {min(unasked)}, which is not measured",
                f"add --provider {min(unasked)}",
            )

    def settings(self) -> list[Setting]:
        """Return all combinations, each once, in the order that was asked for."""
        combinations: Iterable[tuple[Any, ...]] = itertools.product(
            self.providers,
            self.batches,
            (count or usable_cores() for count in self.threads),
            self.callers,
            self.rates,
            self.io,
        )
        names = ("provider", "batch", "threads", "callers", "rate", "io")
        made = (Setting(**dict(zip(names, values, strict=True))) for values in combinations)
        return list(dict.fromkeys(made))

    def to_dict(self) -> dict[str, Any]:
        """Return the options as they stand in a report."""
        found: dict[str, Any] = plain(self)
        return found


def _all(what: str, values: Iterable[int | None], *, most: int) -> None:
    for value in values:
        if value is not None and not 1 <= value <= most:
            raise OnnxOptError(f"{what.format(value)} cannot be had", f"give 1 to {most:,}")
