"""Opens and runs onnxruntime sessions: the one place that knows its awkward corners."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from onnxopt.errors import DataError, ModelError, ProviderError
from onnxopt.runtime.machine.isa import usable_cores
from onnxopt.runtime.sessions.ortvalues import FOREIGN, from_ort_value, to_ort_value

if TYPE_CHECKING:
    from types import ModuleType

    from onnxruntime.capi.onnxruntime_inference_collection import InferenceSession

Optimize = Literal["all", "extended", "basic", "none"]
Feed = Mapping[str, Any]

INSTALL_HINT = "run: pip install 'onnxopt[cpu]' (or 'onnxopt[gpu]' on a machine with CUDA)"

_LEVELS = {
    "none": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
_RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
_FATAL_ONLY = 4


class SessionError(ModelError):
    """onnxruntime refuses to load the model: broken, or an operator that it does not have.

    `unsupported` is true when the model may be well but has an operator or type without a kernel.
    """

    def __init__(self, message: str, hint: str = "", *, unsupported: bool = False) -> None:
        super().__init__(message, hint)
        self.unsupported = unsupported


class RunError(DataError):
    """A loaded model stopped at a node: the inputs do not suit it."""


def import_onnxruntime() -> ModuleType:
    """Import onnxruntime, or raise `ProviderError` that says which extra to install."""
    try:
        import onnxruntime
    except ModuleNotFoundError as error:
        if error.name == "onnxruntime":
            raise ProviderError("onnxruntime is not installed", INSTALL_HINT) from None
        raise ProviderError(f"onnxruntime is broken: {error}", INSTALL_HINT) from error
    except (ImportError, OSError, AttributeError) as error:
        raise ProviderError(
            f"onnxruntime is broken: {error}",
            "reinstall it: pip install --force-reinstall onnxruntime (or onnxruntime-gpu)",
        ) from error
    if not hasattr(onnxruntime, "InferenceSession"):
        raise ProviderError(
            "onnxruntime is broken: the package is there but empty",
            "onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, install one",
        )
    return onnxruntime


def open_session(
    model: Path | str | bytes,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    optimize: Optimize = "all",
    options: Mapping[str, str] | None = None,
    config: Mapping[str, str] | None = None,
    trace: Path | None = None,
    arena: bool = True,
    pattern: bool = True,
) -> InferenceSession:
    """Load `model` (a path, or the bytes of one without external data) into a new session.

    `provider` is a name from `execution.providers` and `options` are its provider options;
    `config` holds session configuration entries. With `trace` each run is profiled, into a file
    whose path begins so; the session's `end_profiling` returns it. `threads` defaults to the cores
    that this process may use. Without `arena`, memory goes back to the system as soon as it is
    free, which costs time; without `pattern`, no run plans the memory of the next. Raises
    `SessionError` when onnxruntime refuses the model and `ProviderError` when it lacks the
    provider. Where the provider cannot take a node, the CPU does:
    ask `placement` who took what.
    """
    onnxruntime = import_onnxruntime()
    if not isinstance(model, bytes) and not _is_utf8(str(model)):
        raise SessionError(f"{model}: onnxruntime opens no path that is no UTF-8", "rename it")
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _FATAL_ONLY
    settings.intra_op_num_threads = threads or usable_cores()
    settings.inter_op_num_threads = 1
    settings.enable_cpu_mem_arena = arena
    settings.enable_mem_pattern = pattern
    settings.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, _LEVELS[optimize]
    )
    if trace is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(trace)
    for key, value in {_RECORD_PLACEMENT: "1", **(config or {})}.items():
        settings.add_session_config_entry(key, value)
    chain = _provider_chain(provider, options or {})
    session: InferenceSession
    try:
        session = _load(onnxruntime, model, settings, chain)
    except OSError as error:
        raise SessionError(f"{_name(model)}: {error.strerror or error}") from error
    except Exception as error:  # onnxruntime's errors share no class but this
        raise _session_error(model, error) from error
    if chain[0][0] not in session.get_providers():
        raise ProviderError(f"provider {provider!r} could not be started", "run: onnxopt providers")
    return session


def _provider_chain(provider: str, options: Mapping[str, str]) -> list[Any]:
    if provider == "cpu":
        return [("CPUExecutionProvider", dict(options))]
    from onnxopt.runtime.execution.providers import find_provider

    wanted = find_provider(provider)
    chain: list[Any] = [(wanted.ort_name, {**wanted.options, **options})]
    return [*chain, *wanted.fallbacks]


def _load(onnxruntime: Any, model: Path | str | bytes, settings: Any, chain: list[Any]) -> Any:
    if isinstance(model, bytes):
        return _session(onnxruntime, model, settings, chain)
    path = Path(model)
    try:
        return _session(onnxruntime, str(path), settings, chain)
    except Exception as error:
        # A lone link to a model: its data lie beside the real file, not beside the link.
        if "xternal" not in str(error) or path.resolve() == path.absolute():
            raise
        return _session(onnxruntime, str(path.resolve()), settings, chain)


def _session(onnxruntime: Any, model: str | bytes, settings: Any, chain: list[Any]) -> Any:
    # Without a fall-back, what a provider cannot do is an error and not a silent run on the CPU.
    return onnxruntime.InferenceSession(model, settings, providers=chain, enable_fallback=0)


def run(session: Any, feed: Feed, names: Sequence[str] | None = None) -> list[Any]:
    """Run `session` once and return its outputs (or those called `names`) in order.

    Tensors come as arrays, bfloat16, float8 and 4-bit types in the dtypes of ml_dtypes; sequences
    as lists, maps as dicts, an empty optional as None. Raises `RunError`, which names the node.
    """
    wanted = session.get_outputs()
    if names is not None:
        by_name = {output.name: output for output in wanted}
        wanted = [by_name[name] for name in names]
    foreign = any(put.type in FOREIGN for put in (*session.get_inputs(), *wanted))
    try:
        if foreign:
            return _run_foreign(session, feed, wanted)
        outputs: list[Any] = session.run([output.name for output in wanted], dict(feed))
    except Exception as error:  # onnxruntime's errors share no class but this
        raise RunError(f"onnxruntime stopped: {cause(error)}") from error
    return outputs


def _run_foreign(session: Any, feed: Feed, wanted: Sequence[Any]) -> list[Any]:
    types = {put.name: put.type for put in session.get_inputs()}
    values = {name: to_ort_value(value, types.get(name, "")) for name, value in feed.items()}
    results = session.run_with_ort_values([output.name for output in wanted], values)
    return [from_ort_value(result) for result in results]


def placement(session: Any) -> dict[str, int]:
    """Return how many nodes each execution provider really took, by onnxruntime's own names.

    Nodes are counted as they were when the graph was divided, nested graphs included. Empty where
    this onnxruntime is too old to keep such a record.
    """
    counts = Counter(provider for _, _, provider in assignments(session))
    return dict(counts.most_common())


def assignments(session: Any) -> list[tuple[str, str, str]]:
    """Return (node name, operator, provider that took it) for every node, as `placement` counts."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []
    try:
        parts = session.get_provider_graph_assignment_info()
    except Exception:  # noqa: BLE001 - the session was not opened here, and keeps no record
        return []
    return [(node.name, node.op_type, part.ep_name) for part in parts for node in part.get_nodes()]


def cause(error: BaseException) -> str:
    """Return one line that says why onnxruntime failed, without its codes and source positions."""
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\S*/onnxruntime\S*\.(?:cc|h|cu|hpp):\d+ ", "", text)
    text = re.sub(r"^Load model from .*? failed:", "", text)
    text = re.sub(r"^(?:\d+)?(?:Fatal error: |Exception during initialization: )", "", text)
    return text[:400] + "…" if len(text) > 400 else text or type(error).__name__


_NO_KERNEL = re.compile(
    r"NOT_IMPLEMENTED|is not a registered function/op|No Op registered for|No opset import for"
    r"|not currently registered or supported|Could not find an implementation"
    r"|ONNX Runtime only \*guarantees\* support|unsupported|Unsupported"
)


def _session_error(model: Path | str | bytes, error: Exception) -> SessionError:
    reason, name = cause(error), _name(model)
    if _NO_KERNEL.search(str(error)):
        return SessionError(
            f"onnxruntime cannot run {name}: {reason}",
            "try a newer onnxruntime, or an onnxruntime build that has this operator",
            unsupported=True,
        )
    return SessionError(
        f"onnxruntime cannot load {name}: {reason}",
        "export the model again; check-model, of the onnx package, says what is wrong",
    )


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(model: Path | str | bytes) -> str:
    return "the model" if isinstance(model, bytes) else str(model)
