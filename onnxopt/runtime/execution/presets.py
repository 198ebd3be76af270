"""Provider options that are sensible and stated, and what options a provider has at all.

What a caller gives always wins. TensorRT keeps what it builds: an engine takes minutes, and one for
other weights, shapes, options, versions or another GPU is another engine. onnxruntime's own name
for an engine tells neither weights (onnxruntime#6455) nor shapes (onnxruntime#32254) apart, so each
has a folder of its own. CUDA graphs are only made on request, because they replay fixed addresses.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from onnxopt.errors import OutputError, ProviderError
from onnxopt.report import Copies
from onnxopt.runtime.execution import libraries
from onnxopt.runtime.machine import devices
from onnxopt.runtime.sessions.session import import_onnxruntime
from onnxopt.text import near_matches

CACHE_VARIABLE = "ONNXOPT_CACHE"

# What a session runs with that is told nothing, spelt out so that a report can state it: TF32 on,
# the fastest convolution by trial. Only memory is asked for as it is needed, not in powers of two.
_CUDA = {
    "use_tf32": "1",
    "cudnn_conv_algo_search": "EXHAUSTIVE",
    "cudnn_conv_use_max_workspace": "1",
    "arena_extend_strategy": "kSameAsRequested",
}
_GRAPHS = {"cuda": "enable_cuda_graph", "tensorrt": "trt_cuda_graph_enable"}
# Read from onnxruntime 1.31.1's own libraries; a name that an older one lacks, that one refuses.
_CUDA_OPTIONS = """
    arena_extend_strategy cudnn_conv1d_pad_to_nc1d cudnn_conv_algo_search
    cudnn_conv_use_max_workspace device_id do_copy_in_default_stream enable_cuda_graph
    enable_cudnn enable_skip_layer_norm_strict_mode fuse_conv_bias gpu_external_alloc
    gpu_external_empty_cache gpu_external_free gpu_mem_limit has_user_compute_stream prefer_nhwc
    sdpa_kernel tunable_op_enable tunable_op_max_tuning_duration_ms tunable_op_tuning_enable
    use_ep_level_unified_stream use_tf32 user_compute_stream
"""
_TENSORRT_OPTIONS = """
    device_id has_user_compute_stream trt_auxiliary_streams trt_bf16_enable
    trt_build_heuristics_enable trt_builder_optimization_level trt_context_memory_sharing_enable
    trt_cuda_graph_enable trt_detailed_build_log trt_dla_core trt_dla_enable
    trt_dump_ep_context_model trt_dump_subgraphs trt_engine_cache_enable trt_engine_cache_path
    trt_engine_cache_prefix trt_engine_decryption_enable trt_engine_decryption_lib_path
    trt_engine_hw_compatible trt_ep_context_embed_mode trt_ep_context_file_path
    trt_external_data_bytestream trt_external_data_bytestream_size trt_extra_plugin_lib_paths
    trt_force_sequential_engine_build trt_force_timing_cache trt_fp16_enable
    trt_int8_calibration_table_name trt_int8_enable trt_int8_use_native_calibration_table
    trt_layer_norm_fp32_fallback trt_load_user_initializer trt_max_partition_iterations
    trt_max_workspace_size trt_min_subgraph_size trt_onnx_bytestream trt_onnx_bytestream_size
    trt_onnx_model_folder_path trt_op_types_to_exclude trt_preview_features
    trt_profile_max_shapes trt_profile_min_shapes trt_profile_opt_shapes trt_sparsity_enable
    trt_tactic_sources trt_timing_cache_enable trt_timing_cache_path
    trt_weight_stripped_engine_enable user_compute_stream
"""
_KNOWN = {
    "cpu": frozenset[str](),
    "cuda": frozenset(_CUDA_OPTIONS.split()),
    "tensorrt": frozenset(_TENSORRT_OPTIONS.split()),
}


def check_options(
    provider: str, given: Mapping[str, str], *, io: Iterable[Copies] = ("copied",)
) -> None:
    """Raise `ProviderError` for options that `provider`, by our name, does not have.

    Also for CUDA graphs where inputs and outputs are copied: a graph is captured with the
    addresses of one run, and only bound ones stay. Providers that are not in our table are left
    to onnxruntime.
    """
    known = _KNOWN.get(provider)
    if known is not None:
        for name in given:
            if name not in known:
                nothing = f"{provider} has no options" if not known else ""
                raise ProviderError(
                    f"provider {provider!r} has no option {name!r}",
                    near_matches(name, known, otherwise=nothing or _listed(provider)),
                )
    if captures_graphs(provider, given) and "copied" in io:
        raise ProviderError(
            f"{provider}.{_GRAPHS[provider]} needs inputs and outputs that stay where they are",
            "measure with --io bound, or leave the option out",
        )


def captures_graphs(provider: str, given: Mapping[str, str]) -> bool:
    """Tell whether options ask for a CUDA graph: the launches of one run, to be played again."""
    return given.get(_GRAPHS.get(provider, ""), "0").lower() in {"1", "true"}


def _listed(provider: str) -> str:
    ort = {"cuda": "CUDA", "tensorrt": "TensorRT"}[provider]
    return f"they are listed at onnxruntime.ai/docs/execution-providers/{ort}-ExecutionProvider"


def options_for(
    provider: str,
    *,
    model_sha256: str,
    shapes: Mapping[str, str],
    given: Mapping[str, str],
    files: Iterable[Path] = (),
) -> dict[str, str]:
    """Return the options for sessions of a model on `provider`, by our name; `given` ones win.

    `shapes` are the inputs' (any text that differs where they differ), `files` hold the weights
    that are not in the file of `model_sha256`: external data is known by size and time. Makes the
    folders that TensorRT keeps engines and timings in; raises `OutputError` where it cannot.
    """
    if provider == "cuda":
        return {**_CUDA, **given}
    if provider != "tensorrt":
        return dict(given)
    versions = _versions(int(given.get("device_id", "0")))
    key = {
        "model": model_sha256,
        "shapes": dict(shapes),
        "options": dict(given),
        "files": [_stamp(path) for path in files],
        **versions,
    }
    folder = cache_folder() / "tensorrt"
    made = dict(given)
    for kind, place in (("engine", _digest(key)), ("timing", f"timings-{_digest(versions)}")):
        switch, path = f"trt_{kind}_cache_enable", f"trt_{kind}_cache_path"
        if made.setdefault(switch, "1").lower() in {"1", "true"} and path not in made:
            made[path] = str(_make(folder / place))
    return made


def cache_folder() -> Path:
    """Return the user's folder for what takes long to make: `$ONNXOPT_CACHE`, else the system's.

    That is `$XDG_CACHE_HOME/onnxopt`, by default `~/.cache/onnxopt`. It can be deleted any time.
    """
    if asked := os.environ.get(CACHE_VARIABLE):
        return Path(asked).expanduser().absolute()
    system = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(system) if Path(system).is_absolute() else Path.home() / ".cache"
    return root / "onnxopt"


def _versions(device: int) -> dict[str, str]:
    """Return what an engine is bound to, beyond the model."""
    gpu = devices.gpu_of("tensorrt", device)
    driver = devices.driver()
    needs = libraries.libraries_of("TensorrtExecutionProvider")
    told = {each.stem: each.version or each.name for each in needs if each.path}
    return {
        "onnxruntime": str(import_onnxruntime().__version__),
        "tensorrt": told.get("libnvinfer", ""),
        "gpu": f"{gpu.name} {gpu.capability}" if gpu else f"device {device}",
        "driver": driver.version if driver else "",
    }


def _stamp(path: Path) -> tuple[str, int, int]:
    found = path.stat()
    return str(path), found.st_size, found.st_mtime_ns


def _digest(key: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"TensorRT cannot keep engines in {folder}: {error.strerror}",
            f"set {CACHE_VARIABLE} to a folder that can be written",
        ) from error
    return folder
