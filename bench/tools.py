"""The tools that are compared, each with the packages of its environment and its command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ENVIRONMENTS = FOLDER / ".envs"
_RUN_PEER = FOLDER / "run_peer.py"


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One optimizer with the options that are compared.

    Tools of one `environment` share it. `requires` are what pip installs there: the current
    releases of the tool and of what it runs on. `arguments` follow the interpreter; `{model}` and
    `{output}` are filled in.
    """

    name: str
    environment: str
    requires: tuple[str, ...]
    arguments: tuple[str, ...]

    @property
    def python(self) -> Path:
        """The interpreter of the tool's environment."""
        return ENVIRONMENTS / self.environment / "bin" / "python"

    @property
    def is_peer(self) -> bool:
        """Whether it is another project's."""
        return self.environment != "onnxopt"

    def command(self, model: Path, output: Path) -> list[str]:
        """Return the command line that optimizes `model` into `output`."""
        places = {"model": model, "output": output}
        return [str(self.python), *(part.format(**places) for part in self.arguments)]


_RUNTIME = ("onnxruntime==1.32.0", "scipy==1.17.1")


def _peer(name: str, *requires: str, environment: str = "") -> Tool:
    return Tool(
        name=name,
        environment=environment or name,
        requires=(*requires, "onnx==1.23.2", "numpy==2.4.6"),
        arguments=("-P", str(_RUN_PEER), name, "{model}", "{output}"),
    )


def _own(target: str) -> Tool:
    options = ("--target", target, "--no-verify", "--no-measure")
    return Tool(
        name=f"onnxopt {target}",
        environment="onnxopt",
        requires=("--editable", f"{FOLDER.parent}[cpu]", "onnx==1.23.2", *_RUNTIME),
        arguments=("-m", "onnxopt", "optimize", "{model}", "-o", "{output}", *options),
    )


TOOLS = {
    tool.name: tool
    for tool in (
        _own("portable"),
        _own("cpu"),
        _peer("onnxruntime", "onnxruntime==1.32.0"),
        _peer("onnxruntime.transformers", "onnxruntime==1.32.0", "sympy==1.14.0"),
        _peer("onnxsim", "onnxsim==0.8.1", "onnxruntime==1.32.0"),
        _peer("onnxslim", "onnxslim==0.1.98"),
        _peer("onnxscript", "onnxscript==0.7.2", "onnx-ir==1.1.0"),
        _peer(
            "onnxscript.ort_fusions",
            "onnxscript==0.7.2",
            "onnx-ir==1.1.0",
            environment="onnxscript",
        ),
        _peer("onnxoptimizer", "onnxoptimizer==0.4.2"),
    )
}


def prepare(tool: Tool) -> dict[str, str]:
    """Make the tool's environment unless it is there; return the versions of what is in it."""
    folder = ENVIRONMENTS / tool.environment
    stamp, wanted = folder / "requires.txt", "\n".join(tool.requires)
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"making the environment of {tool.name}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(tool.python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, "install", *tool.requires], check=False).returncode:
            raise SystemExit(f"pip could not make the environment of {tool.name}: see above")
        stamp.write_text(wanted)
    return versions(tool)


def versions(tool: Tool) -> dict[str, str]:
    """Return package to version for all that is installed in the tool's environment."""
    script = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.name: d.version for d in m.distributions()}))"
    )
    found = subprocess.run([str(tool.python), "-c", script], check=True, capture_output=True)
    packages: dict[str, str] = json.loads(found.stdout)
    return {name: packages[name] for name in sorted(packages, key=str.lower)}
