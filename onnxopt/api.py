"""What `import onnxopt` offers: the commands' verbs, with paths or models in and reports out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt import costs as predicting
from onnxopt import inspection, optimization, pipeline
from onnxopt.chain_config import ChainConfig
from onnxopt.config import OptimizeConfig, QuantizeConfig, find_target
from onnxopt.errors import OnnxOptError
from onnxopt.given import (
    ModelLike,
    check_providers,
    on_disk,
    profile_of,
    same_inputs,
    samples_of,
)
from onnxopt.graph import io
from onnxopt.passes import shapes
from onnxopt.prune_config import PruneConfig
from onnxopt.report import (
    BenchmarkReport,
    CompareReport,
    Copies,
    InspectReport,
    OptimizeReport,
    PruneReport,
    QuantizeReport,
)

if TYPE_CHECKING:
    from onnxopt.pipeline import Progress


def optimize(
    model: ModelLike,
    output: str | Path | None = None,
    *,
    target: str = "portable",
    fix: Mapping[str, int] | None = None,
    opset: int | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    verify: bool = True,
    measure: bool = True,
    data: str | Path | Sequence[Mapping[str, Any]] | None = None,
    prune: float | None = None,
    learn: int = 0,
    quantize: bool = False,
    calibration: str | Path | Sequence[Mapping[str, Any]] | None = None,
    random_data: bool = False,
    min_sqnr: float | None = None,
    metric: str | Callable[[Any], float] | None = None,
    max_drop: float | None = None,
    check: bool = False,
    trace: bool = False,
    progress: Progress | None = None,
) -> OptimizeReport:
    """Optimize a model exactly, prove it against the original, measure it, and write it.

    `fix` gives dimensions a size (`{"batch": 1, "input_ids:1": 128}`). `opset` raises the model to
    that operator set; left out, it is raised where rules gain by it, as far as the target allows.
    `data` is a path as `--data` takes it, or feeds (input name to array). Without `output` nothing
    is written; the report carries the model. A result that is wrong is never written: the report
    is then false. Raises `OnnxOptError` for whatever the caller can mend.

    With `prune` (a share of all channels) and `quantize` the model goes on through what these verbs
    do, in this order, on the samples of `calibration`, and learns in `learn` passes once it was
    pruned; `min_sqnr`, `metric` and `max_drop` hold after each step, against the model as it was
    given, and nothing is written beyond them.
    """
    config = OptimizeConfig(
        target=find_target(target), fix=dict(fix or {}), opset=opset, only=_names(only),
        skip=_names(skip), verify=verify, measure=measure, check=check, trace=trace,
    )  # fmt: skip
    asked = ChainConfig(
        prune=prune, learn=learn, quantize=quantize, random_data=random_data, min_sqnr=min_sqnr,
        metric=metric, max_drop=max_drop,
    )  # fmt: skip
    asked.check(samples=calibration is not None)
    pipeline.check_names((*config.only, *config.skip))
    if verify or measure or asked:
        _require_runtime()
    return optimization.optimize(
        model, output, config, data=data, asked=asked, calibration=calibration, progress=progress
    )


def quantize(
    model: ModelLike,
    calibration: str | Path | Sequence[Mapping[str, Any]] | None,
    output: str | Path | None = None,
    *,
    target: str = "cpu",
    method: str = "auto",
    rounding: str = "descent",
    isa: str = "auto",
    format: str = "qdq",  # noqa: A002 - as the option is called
    max_memory: int | None = None,
    min_sqnr: float | None = None,
    max_slowdown: float | None = None,
    fastest: bool = False,
    metric: str | Callable[[Any], float] | None = None,
    max_drop: float | None = None,
    samples: int | None = None,
    statistics: str | Path | None = None,
    save_statistics: str | Path | None = None,
    random_data: bool = False,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    without: Sequence[str] = (),
    measure: bool = True,
    threads: int | None = None,
    anyway: bool = False,
    progress: Progress | None = None,
) -> QuantizeReport:
    """Make a model int8 where that is faster and still right, and write it.

    `calibration` is a path as `--calibration` takes it, or feeds (input name to array); None only
    with `random_data`. The options are those of `QuantizeConfig`. Without `output` nothing is
    written; the report carries the model. If no int8 model is both right and faster the report is
    false, and nothing is written unless `anyway`. Raises `OnnxOptError` for whatever the caller can
    mend.
    """
    from onnxopt import quantization

    config = QuantizeConfig(
        target=find_target(target), method=method, rounding=rounding, isa=isa, format=format,
        max_memory=max_memory or 0, min_sqnr=min_sqnr, max_slowdown=max_slowdown,
        fastest=fastest, metric=metric, max_drop=max_drop, samples=samples,
        statistics=_path_text(statistics), save_statistics=_path_text(save_statistics),
        random_data=random_data, only=_names(only), skip=_names(skip), without=_names(without),
        measure=measure, threads=threads, anyway=anyway,
    )  # fmt: skip
    if calibration is None and not random_data:
        raise OnnxOptError("int8 needs samples of what the model will meet", "give calibration")
    _require_runtime()
    return quantization.quantize(model, calibration, output, config, progress=progress)


def prune(
    model: ModelLike,
    output: str | Path | None = None,
    *,
    sparsity: float | None = None,
    structure: str = "channel",
    calibration: str | Path | Sequence[Mapping[str, Any]] | None = None,
    target: str = "portable",
    threshold: float | None = None,
    target_latency: float | None = None,
    target_macs: float | None = None,
    importance: str = "auto",
    scope: str = "global",
    protect: Sequence[str] = (),
    refit: bool = True,
    solver: str = "exact",
    ridge: float | None = None,
    teach: bool = False,
    learn: int = 0,
    multiple: int | None = None,
    mask: str | Path | None = None,
    mask_out: str | Path | None = None,
    min_sqnr: float | None = None,
    max_slowdown: float | None = None,
    metric: str | Callable[[Any], float] | None = None,
    max_drop: float | None = None,
    samples: int | None = None,
    max_memory: int | None = None,
    random_data: bool = False,
    measure: bool = True,
    threads: int | None = None,
    anyway: bool = False,
    progress: Progress | None = None,
) -> PruneReport:
    """Take out of a model what it can do without, refit what is left, and write it.

    `calibration` is a path as `--calibration` takes it, or feeds (input name to array); None where
    nothing is refitted and no error is asked for, or with `random_data`. The options are those of
    `PruneConfig`; one of `sparsity`, `threshold`, `target_latency`, `target_macs` and `mask` says
    how much goes. Without `output` nothing is written; the report carries the model. With
    `mask_out` only the masks are written. If a gate fails the report is false, and no model is
    written unless `anyway`. Raises `OnnxOptError` for whatever the caller can mend.
    """
    config = PruneConfig(
        target=find_target(target), structure=structure, sparsity=sparsity, threshold=threshold,
        target_latency=target_latency, target_macs=target_macs, importance=importance, scope=scope,
        protect=_names(protect), refit=refit, solver=solver, ridge=ridge, teach=teach,
        learn=learn, multiple=multiple, mask=_path_text(mask), mask_out=_path_text(mask_out),
        min_sqnr=min_sqnr, max_slowdown=max_slowdown, metric=metric, max_drop=max_drop,
        samples=samples, max_memory=max_memory or 0, random_data=random_data, measure=measure,
        threads=threads, anyway=anyway,
    )  # fmt: skip
    config.check(samples=calibration is not None)
    _require_runtime()
    from onnxopt import prune_task

    return prune_task.prune(model, calibration, output, config, progress=progress)


def inspect(
    model: ModelLike,
    *,
    providers: Sequence[str] = ("cpu",),
    costs: bool = False,
    fix: Mapping[str, int] | None = None,
) -> InspectReport:
    """Say what is in a model, and which provider would take each node.

    With `costs` also what each node takes on the first of `providers`, predicted from shapes in
    which `fix` gives dimensions a size (`{"batch": 1, "input_ids:1": 128}`).
    """
    if fix and not costs:
        raise OnnxOptError("sizes are only for costs", "ask for them with --costs, too")
    with on_disk(model) as source:
        loaded = io.load(source)
        check_providers(providers)
        shapes.infer(loaded)
        shapes.forget(loaded, everything=False)
        first = next(iter(providers), "cpu")
        told = predicting.predict(loaded, io.load(source), fix or {}, first) if costs else None
        profiled = profile_of(loaded, source, model)
        return inspection.inspect(loaded, source, profiled, providers, told)


def compare(
    a: ModelLike,
    b: ModelLike,
    *,
    data: str | Path | Sequence[Mapping[str, Any]] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
    min_sqnr: float | None = None,
) -> CompareReport:
    """Tell whether two models compute the same; `a` is the reference.

    Tolerances come from the reference's own noise unless `rtol`, `atol` (absolute and relative, as
    numpy's) or `min_sqnr` (dB) are given.
    """
    from onnxopt.runtime.comparing.compare import Reference
    from onnxopt.runtime.feeding.feeds import checked

    start = time.perf_counter()
    _require_runtime()
    with on_disk(a) as reference, on_disk(b) as candidate:
        loaded, other = io.load(reference), io.load(candidate)
        same_inputs(loaded, other)
        shapes.infer(loaded)
        path, feeds = samples_of(data)
        if feeds is None:
            found = Reference.invent(reference, loaded, data=path)
        else:
            found = Reference.of(reference, checked(feeds, loaded))
        verdict = found.judge(candidate, rtol=rtol, atol=atol, min_sqnr=min_sqnr)
        return CompareReport(
            reference=profile_of(loaded, reference, a),
            candidate=profile_of(other, candidate, b),
            verification=verdict,
            seconds=time.perf_counter() - start,
        )


def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    providers: Sequence[str] = ("cpu",),
    provider_options: Mapping[str, Mapping[str, str]] | None = None,
    batches: Sequence[int | None] = (None,),
    threads: Sequence[int | None] = (None,),
    callers: Sequence[int] = (1,),
    rates: Sequence[float | None] = (None,),
    io: Sequence[Copies] = ("copied",),
    data: str | Path | None = None,
    fix: Mapping[str, int] | None = None,
    precision: float = 0.02,
    max_time: float = 30.0,
    timeout: float = 120.0,
    aa: bool = False,
    strict: bool = False,
    profile: bool = False,
    against: str | Path | Mapping[str, Any] | None = None,
    against_anyway: bool = False,
    resume: str | Path | Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    watch: Callable[[BenchmarkReport], None] | None = None,
) -> BenchmarkReport:
    """Measure models side by side, in fresh sessions that alternate over several processes.

    Every combination of providers to `io` is a setting; in each, all models take turns until half
    of each interval is below `precision` (a share) or `max_time` seconds are over. `against` is an
    earlier report, or its path, whose rows are compared with; `resume` one that was interrupted,
    whose samples count. `watch` gets what is known after each process. A model that cannot be
    measured is a result with `error`. Raises `OnnxOptError` for whatever the caller can mend.
    """
    from onnxopt.benchmarking import measure
    from onnxopt.benchmarking.plan import Plan

    _require_runtime()
    plan = Plan.of(
        providers=providers,
        provider_options=provider_options or {},
        batches=batches,
        threads=threads,
        callers=callers,
        rates=rates,
        io=io,
        data=data,
        fix=fix or {},
        precision=precision,
        max_time=max_time,
        timeout=timeout,
        aa=aa,
        strict=strict,
        profile=profile,
    )
    check_providers(plan.providers)
    return measure.benchmark(
        models, plan, against=against, anyway=against_anyway, resume=resume,
        progress=progress, watch=watch,
    )  # fmt: skip


def _require_runtime() -> None:
    from onnxopt.runtime.sessions.session import import_onnxruntime

    import_onnxruntime()


def _names(given: Sequence[str]) -> tuple[str, ...]:
    """Take one name for a sequence of one."""
    return (given,) if isinstance(given, str) else tuple(given)


def _path_text(path: str | Path | None) -> str | None:
    return None if path is None else str(path)
