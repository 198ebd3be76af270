"""Makes what models are fed with, in a process of its own: that takes running the models.

Run as `python -m onnxopt.benchmarking.child.feeding` with a plan as JSON on standard input, it
writes one file of `feedfile` for each batch and tells of each in an event: `fed` with `batch`,
`file`, `feed` (name to type and shape) and `shared`, whether it is the first model's feed; or
`failed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxopt.benchmarking.child.events import receive, tell
from onnxopt.benchmarking.child.feedfile import describe_feed, load_feed, save_feed
from onnxopt.benchmarking.processes import listen
from onnxopt.errors import DataError, ModelError, OnnxOptError, ProviderError

FEEDER = "onnxopt.benchmarking.child.feeding"


@dataclass(frozen=True, kw_only=True)
class Fed:
    """A feed in a file; `shared` when the first model got the same, so that both can be compared.

    `described` is name to type and shape. With `error` there is no feed.
    """

    file: str = ""
    described: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    error: str = ""


def feeds_for(
    path: str,
    batches: Sequence[int | None],
    folder: Path,
    *,
    number: int,
    first: Mapping[int | None, Fed],
    data: str | None,
    fix: Mapping[str, int],
    seed: int,
    timeout: float,
) -> dict[int | None, Fed]:
    """Return batch to feed of one model, the first model's where that fits.

    `number` makes file names differ. A model that crashes or hangs has feeds with `error`.
    """
    plan = {
        "path": path,
        "batches": [
            {
                "batch": batch,
                "file": str(folder / f"{number}-{batch}.npz"),
                "first": first[batch].file if batch in first else "",
            }
            for batch in batches
        ],
        "data": data,
        "fix": dict(fix),
        "seed": seed,
    }
    found: dict[int | None, Fed] = {}
    for event in listen(FEEDER, plan, timeout):
        if event["event"] == "fed":
            found[event["batch"]] = Fed(
                file=event["file"], described=event["feed"], shared=event["shared"]
            )
        elif event.get("fatal"):
            rest = {batch: Fed(error=event["message"]) for batch in batches if batch not in found}
            found.update(rest)
        else:
            found[event["batch"]] = Fed(error=event["message"])
    return found


def _feed(plan: Mapping[str, Any]) -> None:
    from onnxopt.graph import io

    maker = _Maker(plan, io.load(plan["path"]))
    for job in plan["batches"]:
        tell(event="begin", key=plan["path"])
        try:
            feed, file = maker.shared(job) or maker.own(job)
        except OnnxOptError as error:
            tell(event="failed", key="", batch=job["batch"], message=str(error))
            continue
        except MemoryError as error:
            message = f"not enough memory for inputs of this size: {error}"
            tell(event="failed", key="", batch=job["batch"], message=message)
            continue
        tell(
            event="fed",
            batch=job["batch"],
            file=file,
            feed=describe_feed(feed),
            shared=file == job["first"],
        )


class _Maker:
    """Makes the feeds of one model; its session is opened once, when it is wanted."""

    def __init__(self, plan: Mapping[str, Any], model: Any) -> None:
        self.plan, self.model = plan, model
        self.engine: Any = None

    def shared(self, job: Mapping[str, Any]) -> tuple[dict[str, Any], str] | None:
        """Return the first model's feed if this one runs with it."""
        from onnxopt.runtime.feeding.feeds import check_feed, model_inputs

        if not job["first"]:
            return None
        feed = load_feed(Path(job["first"]))
        try:
            check_feed(feed, model_inputs(self.model), "the first model's feed")
            self._try(feed)
        except DataError:
            return None
        return feed, job["first"]

    def _try(self, feed: dict[str, Any]) -> None:
        """Run once, where onnxruntime can on the processor: ids may be beyond this vocabulary."""
        from onnxopt.runtime.sessions.engine import ONNXRUNTIME, open_engine

        try:
            self.engine = self.engine or open_engine(self.plan["path"], only=ONNXRUNTIME)
        except (ModelError, ProviderError):
            return
        self.engine.run(feed)

    def own(self, job: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Make a feed with which the model runs, and save it."""
        from onnxopt.runtime.feeding.feeds import make_batch
        from onnxopt.runtime.sessions.engine import open_engine

        self.engine = self.engine or open_engine(self.plan["path"])
        feed = make_batch(
            self.model,
            job["batch"],
            runs=self.engine.run,
            seed=self.plan["seed"],
            fix=self.plan["fix"],
            data=self.plan["data"],
        )
        save_feed(Path(job["file"]), feed)
        return feed, job["file"]


def main() -> int:
    """Read the plan and carry it out."""
    plan = receive()
    try:
        _feed(plan)
    except OnnxOptError as error:
        for job in plan["batches"]:
            tell(event="failed", key="", batch=job["batch"], message=str(error))
    tell(event="end")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
