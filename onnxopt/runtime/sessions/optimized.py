"""Has onnxruntime write down what it makes of a model: the graph that it really runs.

That is done in a process of its own, because its optimizers may crash. Layouts are left alone
unless they are asked for: they add Transposes and rename everything, and fuse no Q/DQ pair more.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from onnxopt.errors import ModelError
from onnxopt.runtime.sessions.session import SessionError, import_onnxruntime

_OPTIMIZE = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, sys.argv[3])
options.optimized_model_filepath = sys.argv[2]
keep = "session.optimized_model_external_initializers_"
options.add_session_config_entry(keep + "file_name", "optimized.data")
options.add_session_config_entry(keep + "min_size_in_bytes", "4096")
try:
    onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
except Exception as error:
    print(" ".join(str(error).split()))
    sys.exit(1)
"""


def optimized(model: Path, folder: Path, *, layouts: bool = False) -> Path:
    """Return the file, in `folder`, of the graph that onnxruntime's CPU provider would run.

    With `layouts` it is in the memory layouts of this processor, good for nothing but to be looked
    at. Raises `SessionError` where it refuses the model, and `ModelError` where it crashes.
    """
    import_onnxruntime()
    made = folder / "optimized.onnx"
    level = "ORT_ENABLE_ALL" if layouts else "ORT_ENABLE_EXTENDED"
    command = [sys.executable, "-P", "-c", _OPTIMIZE, str(model), str(made), level]
    done = subprocess.run(  # noqa: S603 - this interpreter, and paths that are no options
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True
    )
    if done.returncode < 0:
        name = signal.strsignal(-done.returncode) or f"signal {-done.returncode}"
        raise ModelError(f"onnxruntime crashes when it optimizes the model ({name})")
    if done.returncode or not made.exists():
        reason = (done.stdout or done.stderr).strip().splitlines()
        raise SessionError(f"onnxruntime cannot load {model}: {reason[-1] if reason else ''}")
    return made
