"""Scores of a quantized model on held-out samples: against the truth, and against fp32.

`outcome` reduces what a model gave for a feed to what is compared; `score` compares. All decibels
are of signal over error: 10·log10(Σ y² / Σ (y' - y)²), y that of fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

SURE = 0.5
INK = 0.3
Outcome = np.ndarray
Scores = dict[str, float]


def first(outputs: Sequence[np.ndarray], _: Mapping[str, np.ndarray]) -> Outcome:
    """Return the first output as it is."""
    return outputs[0]


def best_characters(outputs: Sequence[np.ndarray], _: Mapping[str, np.ndarray]) -> Outcome:
    """Return the best character of each column, [1, columns]."""
    return outputs[0].argmax(-1).astype(np.int32)


def pooled(outputs: Sequence[np.ndarray], feed: Mapping[str, np.ndarray]) -> Outcome:
    """Return the mean over the tokens that are no padding, [batch, width]."""
    mask = feed["attention_mask"][:, :, None].astype(np.float32)
    mean: np.ndarray = (outputs[0] * mask).sum(1) / mask.sum(1)
    return mean


def decibels(reference: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> Scores:
    """Return SQNR of all samples together, the mean of each sample's, and their 5th percentile."""
    signal = np.array([np.square(y, dtype=np.float64).sum() for y in reference])
    error = np.array(
        [np.square(z - y.astype(np.float64)).sum() for y, z in zip(reference, found, strict=True)]
    )
    # Equal to the last bit is 150 dB, about what float32 can tell.
    each = 10 * np.log10((signal + 1e-30) / (np.maximum(error, signal * 1e-15) + 1e-30))
    total = 10 * math.log10(signal.sum() / max(error.sum(), signal.sum() * 1e-15))
    return {
        "sqnr_db": total,
        "sqnr_mean_db": float(each.mean()),
        "sqnr_p5_db": float(np.percentile(each, 5)),
    }


def classes(reference: Sequence[Outcome], found: Sequence[Outcome], _: Sequence[Any]) -> Scores:
    """Score logits: agreement on the best class, also where fp32 is sure, and decibels.

    Sure is what leads by more than 0.5 of probability.
    """
    y, z = np.concatenate(list(reference)), np.concatenate(list(found))
    same = y.argmax(1) == z.argmax(1)
    sure = margins(y) > SURE
    return {
        "samples": len(y),
        "agreement": float(same.mean()),
        "sure": int(sure.sum()),
        "sure_disagreed": int((~same & sure).sum()),
        **decibels(list(y), list(z)),
    }


def margins(logits: np.ndarray) -> np.ndarray:
    """Return by how much of probability the best class leads the second, [N, classes] → [N]."""
    raised = np.exp(logits - logits.max(1, keepdims=True))
    two = np.sort(raised / raised.sum(1, keepdims=True), axis=1)[:, -2:]
    lead: np.ndarray = two[:, 1] - two[:, 0]
    return lead


def labelled(
    labels: Sequence[str] | None,
) -> Callable[[Sequence[Outcome], Sequence[Outcome], Sequence[Any]], Scores]:
    """Return a score of accuracy by label, given as words of `labels` or as numbers."""

    def score(
        reference: Sequence[Outcome], found: Sequence[Outcome], truths: Sequence[Any]
    ) -> Scores:
        y, z = np.concatenate(list(reference)), np.concatenate(list(found))
        given = [truth for each in truths for truth in (each if isinstance(each, list) else [each])]
        truth = np.array([labels.index(word) for word in given] if labels else given)
        return {
            "samples": len(y),
            "accuracy": float((z.argmax(1) == truth).mean()),
            "accuracy_fp32": float((y.argmax(1) == truth).mean()),
            "agreement": float((y.argmax(1) == z.argmax(1)).mean()),
            **decibels(list(y), list(z)),
        }

    return score


def read_text(best: Outcome, characters: Sequence[str]) -> str:
    """Decode the best characters of the columns, [1, columns], as CTC does; 0 is the blank."""
    row = best.ravel()
    changed = np.concatenate([[True], row[1:] != row[:-1]])
    return "".join(characters[index] for index in row[changed] if index)


def edits(one: str, other: str) -> int:
    """Return how many characters are to be inserted, removed or replaced (Levenshtein)."""
    costs = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, costs[0] = costs[0], i
        for j, b in enumerate(other, 1):
            best = min(costs[j] + 1, costs[j - 1] + 1, diagonal + (a != b))
            diagonal, costs[j] = costs[j], best
    return costs[-1]


def characters_wrong(
    characters: Sequence[str],
) -> Callable[[Sequence[Outcome], Sequence[Outcome], Sequence[Any]], Scores]:
    """Return a score of character error rates, in percent of the characters of the truth."""

    def score(
        reference: Sequence[Outcome], found: Sequence[Outcome], truths: Sequence[Any]
    ) -> Scores:
        fp32 = [read_text(best, characters) for best in reference]
        read = [read_text(best, characters) for best in found]
        pairs = {"cer": (read, truths), "cer_fp32": (fp32, truths), "cer_to_fp32": (read, fp32)}
        return {
            "samples": len(read),
            **{name: error_rate(texts, truth) for name, (texts, truth) in pairs.items()},
            "lines_as_fp32": sum(a == b for a, b in zip(read, fp32, strict=True)) / len(read),
        }

    return score


def error_rate(texts: Sequence[str], truths: Sequence[str]) -> float:
    """Return edits over the characters of the truth, in percent; blanks are not compared."""
    pairs = [("".join(a.split()), "".join(b.split())) for a, b in zip(texts, truths, strict=True)]
    return 100 * sum(edits(a, b) for a, b in pairs) / max(1, sum(len(b) for _, b in pairs))


def maps(reference: Sequence[Outcome], found: Sequence[Outcome], _: Sequence[Any]) -> Scores:
    """Score maps of probability: decibels, and the overlap of what is above 0.3 with fp32's.

    Decibels are of the maps in which fp32 sees text at all: `written` of them.
    """
    overlap = []
    for y, z in zip(reference, found, strict=True):
        both, either = ((y > INK) & (z > INK)).sum(), ((y > INK) | (z > INK)).sum()
        overlap.append(float(both / either) if either else 1.0)
    written = [pair for pair in zip(reference, found, strict=True) if (pair[0] > INK).any()]
    return {
        "samples": len(overlap),
        "written": len(written),
        "overlap": float(np.mean(overlap)),
        **decibels([y for y, _ in written], [z for _, z in written]),
    }


def embeddings(reference: Sequence[Outcome], found: Sequence[Outcome], _: Sequence[Any]) -> Scores:
    """Score sentence embeddings: mean and lowest cosine to fp32's, and decibels."""
    y, z = np.concatenate(list(reference)), np.concatenate(list(found))
    lengths = np.linalg.norm(y, axis=1) * np.linalg.norm(z, axis=1)
    cosines = (y * z).sum(1) / np.maximum(lengths, 1e-12)
    return {
        "samples": len(y),
        "cosine": float(cosines.mean()),
        "cosine_lowest": float(cosines.min()),
        **decibels(list(y), list(z)),
    }
