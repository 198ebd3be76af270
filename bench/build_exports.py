"""Exports models from transformers by both exporters of torch, with random weights.

`--size tiny` makes the fixtures of `tests/exports/`, `--size full` what `exports.py` measures, in
`bench/.work/exports/`. The environment is `bench/.envs/exports/`, made on the first run. Torch
without CUDA is enough: where pip takes another by default, put that one there before.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from tools import Tool, prepare

FOLDER = Path(__file__).resolve().parent
PLACES = {
    "tiny": FOLDER.parent / "tests" / "exports" / "models",
    "full": FOLDER / ".work" / "exports",
}
ENVIRONMENT = Tool(
    name="the exporters",
    environment="exports",
    requires=("torch==2.13.0", "transformers==5.23.0", "onnxscript==0.7.2", "onnx==1.23.2"),
    arguments=(),
)
EXPORTERS = ("script", "dynamo")
TRANSFORMERS = ("bert", "distilbert", "vit", "gpt2", "llama")
PUBLISHED = (*TRANSFORMERS, "resnet50", "mobilenet_v2")
VARIANTS = ("gpt2_cache", "llama_cache", "gpt_neox", "mistral", "qwen3", "bart", "t5")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One export: which model, how large, by which exporter, with attention written how."""

    model: str
    size: str
    exporter: str
    attention: str = "sdpa"

    @property
    def path(self) -> Path:
        """Where the export lies."""
        eager = "_eager" if self.attention == "eager" else ""
        return PLACES[self.size] / f"{self.model}_{self.exporter}{eager}.onnx"


def wanted(size: str) -> Iterator[Wanted]:
    """Yield what is exported in a size: tiny has eager attention and variants besides."""
    for model in (*PUBLISHED, *(VARIANTS if size == "tiny" else ())):
        for exporter in EXPORTERS:
            yield Wanted(model=model, size=size, exporter=exporter)
            if size == "tiny" and model in TRANSFORMERS:
                yield Wanted(model=model, size=size, exporter=exporter, attention="eager")


def export(each: Wanted) -> str | None:
    """Write one export; return the last line of what went wrong."""
    each.path.parent.mkdir(parents=True, exist_ok=True)
    script, partial = FOLDER / "exporters" / "export.py", each.path.with_suffix(".part")
    command = [str(ENVIRONMENT.python), str(script), each.model, each.size, each.exporter]
    command += [each.attention, str(partial)]
    child = subprocess.run(command, capture_output=True, check=False, text=True)
    if child.returncode:
        partial.unlink(missing_ok=True)
        return (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
    partial.replace(each.path)
    return None


@click.command()
@click.option("--size", type=click.Choice(list(PLACES)), default="full", show_default=True)
@click.option("--models", help=f"Of: {', '.join((*PUBLISHED, *VARIANTS))}; commas between them.")
@click.option("--again", is_flag=True, help="Also those that are there.")
def main(size: str, models: str | None, again: bool) -> None:
    """Export the models: 38 tiny ones in ten minutes, 14 full ones (4 GB) in four."""
    chosen = models.split(",") if models else [*PUBLISHED, *VARIANTS]
    if unknown := set(chosen) - {*PUBLISHED, *VARIANTS}:
        raise click.UsageError(f"no model is called {min(unknown)!r}")
    prepare(ENVIRONMENT)
    failed = 0
    for each in wanted(size):
        if each.model not in chosen or (each.path.exists() and not again):
            continue
        start = time.perf_counter()
        fault = export(each)
        failed += fault is not None
        told = fault or f"{each.path.stat().st_size / 1e6:.2f} MB"
        click.echo(f"{each.path.stem:28} {time.perf_counter() - start:5.1f} s  {told}", err=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
