"""The user's own measure of accuracy: a function of a model that can be run.

    def accuracy(predict):
        images, labels = load()
        right = [predict({"images": x})["logits"].argmax() == y for x, y in zip(images, labels)]
        return sum(right) / len(right)

It keeps its own data, since only it knows the labels, and returns a number, the higher the better.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnxopt.errors import DataError, OnnxOptError
from onnxopt.judging.quality import predictor
from onnxopt.report import Score
from onnxopt.text import near_matches

Predict = Callable[[Mapping[str, Any]], Mapping[str, Any]]
Metric = Callable[[Predict], float]


def load_metric(given: str | Metric) -> tuple[str, Metric]:
    """Return name and function of a metric that is given as `file.py:function` or as a function.

    Raises `OnnxOptError` that says what is missing.
    """
    if callable(given):
        return getattr(given, "__name__", type(given).__name__), given
    found = re.fullmatch(r"(.+\.py):(\w+)", given)
    if found is None:
        raise OnnxOptError(f"--metric {given!r} is not file.py:function", "write eval.py:accuracy")
    path, name = Path(found[1]), found[2]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise OnnxOptError(f"--metric: there is no file {path}", "give the path of a file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the user's code does wrong
        raise _failed(given, error) from error
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise OnnxOptError(f"{path} has no function {name!r}", near_matches(name, known))
    return given, function


def score(name: str, metric: Metric, predict: Predict) -> float:
    """Return what a metric says of a model; raises `OnnxOptError` where that is no number.

    Errors of `predict` itself, such as a feed that does not suit the model, come through as they
    are: they name the input.
    """
    try:
        found = metric(predict)
    except DataError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code does wrong
        raise _failed(name, error) from error
    try:
        number = float(found)
    except (TypeError, ValueError):
        raise OnnxOptError(
            f"{name} returned {type(found).__name__}", "return one number, the higher the better"
        ) from None
    if not math.isfinite(number):
        raise OnnxOptError(f"{name} returned {number}", "return a finite number")
    return number


def _failed(name: str, error: BaseException) -> OnnxOptError:
    last = inspect.getinnerframes(error.__traceback__)[-1] if error.__traceback__ else None
    where = f" (line {last.lineno} of {Path(last.filename).name})" if last is not None else ""
    return OnnxOptError(
        f"{name} failed: {type(error).__name__}: {error}{where}", "run it by itself first"
    )


@dataclass(frozen=True, kw_only=True)
class Scores:
    """A metric, and what it says of the float model."""

    name: str
    metric: Metric
    float_score: float

    @classmethod
    def of_float(cls, given: str | Metric, model: Path) -> Scores:
        """Load a metric and ask it about the float model."""
        name, metric = load_metric(given)
        return cls(name=name, metric=metric, float_score=score(name, metric, predictor(model)))

    def of(self, model: Path) -> float:
        """Return what the metric says of a model."""
        return score(self.name, self.metric, predictor(model))

    def report(self, model: Path, max_drop: float | None) -> Score:
        """Return both scores for the report."""
        return Score(
            function=self.name,
            float_score=self.float_score,
            int8_score=self.of(model),
            max_drop=max_drop,
        )
