"""What `import onnxopt` offers: the commands' verbs, with paths or models in and reports out."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from onnxopt import costs as predicting
from onnxopt import inspection, pipeline, prove
from onnxopt.config import OptimizeConfig, find_target
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.profile import profile
from onnxopt.graph.signature import spec_of
from onnxopt.passes import shapes
from onnxopt.report import (
    BenchmarkReport,
    CompareReport,
    InspectReport,
    OptimizeReport,
    Profile,
)
from onnxopt.runtime.memory import peak_rss_bytes

if TYPE_CHECKING:
    from onnxopt.pipeline import Progress

ModelLike = str | Path | onnx.ModelProto | ir.Model


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
    """
    start = time.perf_counter()
    config = OptimizeConfig(
        target=find_target(target),
        fix=dict(fix or {}),
        opset=opset,
        only=(only,) if isinstance(only, str) else tuple(only),
        skip=(skip,) if isinstance(skip, str) else tuple(skip),
        verify=verify,
        measure=measure,
        check=check,
        trace=trace,
    )
    pipeline.check_names((*config.only, *config.skip))
    if verify or measure:
        _require_runtime()
    with _on_disk(model) as source:
        path, feeds = _samples(data)
        prover = prove.Prover(
            source,
            config,
            data=path,
            feeds=feeds,
            progress=progress,
            beside=None if output is None else Path(output).absolute().parent,
        )
        original = prover.original().model
        if output is not None:
            io.check_output(output, io.source_of(original))
        before = _profile_of(original, source, model)
        proof = prover.prove()
        right = proof.verification is None or proof.verification.passed
        if output is not None and right:
            io.save(proof.candidate.model, output)
        return _report(proof, config, before, output, start)


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
    with _on_disk(model) as source:
        loaded = io.load(source)
        _check_providers(providers)
        shapes.infer(loaded)
        shapes.forget(loaded, everything=False)
        first = next(iter(providers), "cpu")
        told = predicting.predict(loaded, io.load(source), fix or {}, first) if costs else None
        profiled = _profile_of(loaded, source, model)
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
    from onnxopt.runtime.compare import Reference
    from onnxopt.runtime.feeds import checked

    start = time.perf_counter()
    _require_runtime()
    with _on_disk(a) as reference, _on_disk(b) as candidate:
        loaded, other = io.load(reference), io.load(candidate)
        _same_inputs(loaded, other)
        shapes.infer(loaded)
        path, feeds = _samples(data)
        if feeds is None:
            found = Reference.invent(reference, loaded, data=path)
        else:
            found = Reference.of(reference, checked(feeds, loaded))
        verdict = found.judge(candidate, rtol=rtol, atol=atol, min_sqnr=min_sqnr)
        return CompareReport(
            reference=_profile_of(loaded, reference, a),
            candidate=_profile_of(other, candidate, b),
            verification=verdict,
            seconds=time.perf_counter() - start,
        )


def benchmark(
    models: str | Path | Sequence[str | Path],
    *,
    providers: Sequence[str] = ("cpu",),
    batches: Sequence[int | None] = (None,),
    threads: Sequence[int | None] = (None,),
    data: str | Path | None = None,
    seconds: float = 30.0,
    processes: int = 5,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Measure models side by side, in fresh sessions that alternate over several processes.

    `seconds` bounds the time for each provider, batch and number of threads.
    """
    from onnxopt.benchmarking import measure as measuring

    _require_runtime()
    paths = [models] if isinstance(models, (str, Path)) else list(models)
    for path in paths:
        io.load(path)
    _check_providers(providers)
    return measuring.benchmark(
        paths,
        providers=providers,
        batches=batches,
        threads=threads,
        data=data,
        seconds=seconds,
        processes=processes,
        progress=progress,
    )


def _require_runtime() -> None:
    from onnxopt.runtime.session import import_onnxruntime

    import_onnxruntime()


@contextlib.contextmanager
def _on_disk(model: ModelLike) -> Iterator[Path]:
    """Give the path of a model; one that is in memory is written to a temporary folder."""
    if isinstance(model, (str, Path)):
        yield Path(model)
        return
    if not isinstance(model, (onnx.ModelProto, ir.Model)):
        raise OnnxOptError(
            f"{type(model).__name__} is no model", "give a path, a ModelProto or an onnx_ir Model"
        )
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "model.onnx"
        io.save(model if isinstance(model, ir.Model) else io.from_proto(model), path)
        yield path


def _same_inputs(a: ir.Model, b: ir.Model) -> None:
    """Raise where no feed could suit both models."""
    mine, theirs = (
        {v.name: spec_of(v) for v in m.graph.inputs if not v.is_initializer()} for m in (a, b)
    )
    for name in (*mine, *theirs):
        one, two = mine.get(name), theirs.get(name)
        if one is None or two is None:
            where = "second" if two is None else "first"
            raise OnnxOptError(
                f"the {where} model has no input {name!r}", "compare models with the same inputs"
            )
        if one.type != two.type:
            raise OnnxOptError(
                f"input {name!r} is {one.type} in one model and {two.type} in the other",
                "compare models with the same inputs",
            )


def _samples(data: Any) -> tuple[str | Path | None, Sequence[Mapping[str, Any]] | None]:
    """Tell a path to samples from feeds; one feed alone will do."""
    if data is None or isinstance(data, (str, Path)):
        return data, None
    if isinstance(data, Mapping):
        return None, [data]
    try:
        feeds = list(data)
    except TypeError:
        feeds = [None]
    if not all(isinstance(feed, Mapping) for feed in feeds):
        raise OnnxOptError(
            f"{type(data).__name__} is no kind of samples",
            "give a path, or feeds: dicts of arrays by input name",
        )
    return None, feeds


def _check_providers(names: Sequence[str]) -> None:
    """Raise `ProviderError` for an unknown provider, or when none of those asked for is there."""
    from onnxopt.errors import ProviderError
    from onnxopt.runtime.providers import find_provider, is_known

    faults = []
    for name in names:
        try:
            find_provider(name)
        except ProviderError as error:
            if not is_known(name):
                raise
            faults.append(error)
    if faults and len(faults) == len(names):
        raise faults[0]


def _profile_of(model: ir.Model, path: Path, given: ModelLike) -> Profile:
    if not shapes.was_inferred(model):
        shapes.infer(model)
    source = io.source_of(model)
    size = source.file_bytes if source is not None else path.stat().st_size
    named = str(path) if isinstance(given, (str, Path)) else None
    return profile(model, path=named, sha256=io.sha256_of(path), file_bytes=size)


def _report(
    proof: prove.Proof,
    config: OptimizeConfig,
    before: Profile,
    output: str | Path | None,
    start: float,
) -> OptimizeReport:
    right = proof.verification is None or proof.verification.passed
    written = output is not None and right
    after = proof.candidate.profile
    if written and output is not None:
        size = sum(part.stat().st_size for part in io.files_of(output))
        after = replace(after, path=str(output), sha256=io.sha256_of(output), file_bytes=size)
    refused = proof.candidate.transformation.outcome.refused
    return OptimizeReport(
        input=before,
        output=after,
        target=config.target.name,
        steps=proof.steps(),
        verification=proof.verification,
        difference=proof.difference,
        measurements=proof.measurements,
        dropped=proof.dropped,
        refusals=tuple(reason for reasons in refused.values() for reason in reasons),
        warnings=(*proof.warnings, *inspection.remarks(proof.candidate.model)),
        seconds=time.perf_counter() - start,
        peak_rss_bytes=peak_rss_bytes(),
        written=written,
        model=proof.candidate.model,
    )
