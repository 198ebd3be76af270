"""Rows of the tables about trust, from `bench/results/trust.json`: only what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Table = tuple[list[str], list[list[str]]]
Row = Mapping[str, Any]

NOT_MEASURED: Table = (["not measured"], [])
_NONE = "no difference"
_USUAL = ("one after the other", "in turns")


def rows_of(results: Row, name: str) -> dict[str, Row]:
    """Return what was measured of one experiment; what failed is left out."""
    return {key: row for key, row in _all(results, name).items() if "error" not in row}


def _all(results: Row, name: str) -> dict[str, Row]:
    found: dict[str, Row] = results.get("experiments", {}).get(name, {}).get("rows", {})
    return found


def _count(rows: Sequence[Row]) -> str:
    """Say how many were measured, and how many could not be."""
    failed = sum("error" in row for row in rows)
    return f"{len(rows) - failed} ({failed} failed)" if failed else str(len(rows))


def share(count: int, total: int) -> str:
    """Write a share with its exact 95 % interval (Clopper and Pearson)."""
    from scipy import stats

    interval = stats.binomtest(count, total).proportion_ci()
    return f"{count / total:.0%} ({interval.low:.0%}–{interval.high:.0%})"


def _methods(results: Row) -> dict[str, list[Row]]:
    """Return each way of comparing with its rows, failed ones too, where any was measured."""
    alarms, usual = _all(results, "false-alarms"), _all(results, "usual")
    methods = {"onnxopt benchmark": list(alarms.values())}
    for way in _USUAL:
        methods[f"usual, {way}"] = [row for key, row in usual.items() if key.endswith(f" {way}")]
    return {name: rows for name, rows in methods.items() if any("error" not in row for row in rows)}


def alarms(results: Row) -> Table:
    """One row a method: how often it says that a model differs from its own copy."""
    rows = []
    for name, done in _methods(results).items():
        found = [row for row in done if "error" not in row]
        wrong = sum(row["verdict"] != _NONE for row in found)
        ratios = [abs(math.log(row["ratio"])) for row in found]
        intervals = [row for row in found if "low" in row]
        widths = [math.log(row["high"] / row["low"]) / 2 for row in intervals]
        holds = sum(row["low"] <= 1 <= row["high"] for row in intervals)
        rows.append(
            [
                name,
                _count(done),
                str(wrong),
                share(wrong, len(found)),
                f"{statistics.median(ratios):.1%}",
                f"{max(ratios):.1%}",
                f"±{statistics.median(widths):.1%}" if widths else "–",
                str(holds) if intervals else "–",
                f"{statistics.median(row['seconds'] for row in found):.1f}",
            ]
        )
    head = ["method", "comparisons", "says 'different'", "share", "ratio off 1, median", "most"]
    head += ["interval, median", "holds 1", "seconds"]
    return (head, rows) if rows else NOT_MEASURED


def alarms_by_model(results: Row) -> Table:
    """One row a model: how often each method says 'different', and onnxopt's ratios."""
    alarms, usual = rows_of(results, "false-alarms"), rows_of(results, "usual")
    names = list(dict.fromkeys(key.split(" ")[0] for key in (*alarms, *usual)))
    rows = []
    for name in names:
        own = [row for key, row in alarms.items() if key.split(" ")[0] == name]
        ways = [
            [r for key, r in usual.items() if key.startswith(f"{name} ") and key.endswith(way)]
            for way in _USUAL
        ]
        told = [_different(found) for found in (own, *ways)]
        ratios = " ".join(f"{row['ratio']:.3f}" for row in own)
        rows.append([name, *told, ratios or "–"])
    head = ["model", "onnxopt benchmark", *(f"usual, {way}" for way in _USUAL), "ratios by onnxopt"]
    return (head, rows) if rows else NOT_MEASURED


def _different(found: Sequence[Row]) -> str:
    wrong = sum(row["verdict"] != _NONE for row in found)
    return f"{wrong} of {len(found)}" if found else "–"


def found(results: Row) -> Table:
    """One row a kind of chain and number of blocks more: how often that was found."""
    rows = []
    for more, name in ((1, "slower-5"), (2, "slower-10")):
        measured = rows_of(results, name)
        kinds = list(dict.fromkeys(key.rpartition(" ")[0] for key in measured))
        for kind in kinds:
            of_kind = [row for key, row in measured.items() if key.rpartition(" ")[0] == kind]
            rows.append([f"{20 + more} : 20", kind, *_found(of_kind), *_truth(results, kind, more)])
        if len(kinds) > 1:
            told = [*_found(list(measured.values())), "–", "–"]
            told[0] = _count(list(_all(results, name).values()))
            rows.append([f"{20 + more} : 20", "**all**", *told])
    head = ["blocks", "kind", "comparisons", "found", "wrong way", "slower, median of these"]
    head += ["seconds, median", "most", "ms of 20", "slower, side by side"]
    return (head, rows) if rows else NOT_MEASURED


def _found(rows: Sequence[Row]) -> list[str]:
    right = sum(row["verdict"] == row["expected"] for row in rows)
    wrong = sum(row["verdict"] not in {row["expected"], _NONE} for row in rows)
    slower = [row["ratio"] if row["expected"] == "faster" else 1 / row["ratio"] for row in rows]
    seconds = [row["seconds"] for row in rows]
    return [
        str(len(rows)),
        str(right),
        str(wrong),
        f"{statistics.median(slower) - 1:+.1%}",
        f"{statistics.median(seconds):.1f}",
        f"{max(seconds):.1f}",
    ]


def _truth(results: Row, kind: str, more: int) -> list[str]:
    """Return the ms of the shorter chain and how much slower the longer one is, side by side."""
    processes = [
        row["ms"]
        for key, row in rows_of(results, "constructed").items()
        if key.rpartition(" ")[0] == kind
    ]
    if not processes:
        return ["not measured", "not measured"]
    levels = [
        statistics.median(math.log(times[more] / times[0]) for times in rounds)
        for rounds in processes
    ]
    median = statistics.median(times[0] for rounds in processes for times in rounds)
    center, half = statistics.fmean(levels), _half_width(levels)
    told = f"{math.expm1(center):+.1%}"
    if half is not None:
        told += f" ({math.expm1(center - half):+.1%} to {math.expm1(center + half):+.1%})"
    return [f"{median:.2f}", told]


def _half_width(levels: Sequence[float]) -> float | None:
    """Return half of the 95 % interval of the mean of processes; None of a single one."""
    if len(levels) < 2:
        return None
    from scipy import stats

    quantile = float(stats.t.ppf(0.975, len(levels) - 1))
    return quantile * statistics.stdev(levels) / math.sqrt(len(levels))


def agreement(results: Row) -> Table:
    """One row a model: the median over equally many fresh sessions by both methods."""
    measured = rows_of(results, "agreement")
    rows = []
    for name in dict.fromkeys(key.split(" ")[0] for key in measured):
        rounds = [row for key, row in measured.items() if key.split(" ")[0] == name]
        plain, own = [], []
        for row in rounds:  # equally many of both in every round
            pairs = list(zip(row["plain_ms"], row["benchmark_ms"], strict=False))
            plain += [one for one, _ in pairs]
            own += [other for _, other in pairs]
        if not plain:
            continue
        loop, benchmark = statistics.median(plain), statistics.median(own)
        sessions = sum(row["benchmark_sessions"] for row in rounds)
        of_all = statistics.median(row["benchmark_median_ms"] for row in rounds)
        rows.append(
            [
                name,
                str(len(plain)),
                f"{loop:.3f}",
                f"{benchmark:.3f}",
                f"{benchmark / loop - 1:+.1%}",
                f"{of_all:.3f}",
                str(sessions),
            ]
        )
    head = ["model", "sessions of each", "plain loop, ms", "onnxopt benchmark, ms", "difference"]
    head += ["of all its sessions, ms", "all its sessions"]
    return (head, rows) if rows else NOT_MEASURED


def overhead(results: Row) -> Table:
    """One row: what the loop that times takes of each run of a model of one node."""
    measured = list(rows_of(results, "overhead").values())
    if not measured:
        return NOT_MEASURED
    beside, inside = ([row[name] / 1000 for row in measured] for name in ("beside_ns", "inside_ns"))
    both = [one + other for one, other in zip(beside, inside, strict=True)]
    settings = results["experiments"]["overhead"]["settings"]
    row = [f"{len(measured)} × {settings['runs']}"]
    row.append(f"{statistics.median(row['sample_ns'] for row in measured) / 1000:.2f}")
    row += [f"{statistics.median(part):.2f}" for part in (beside, inside, both)]
    row.append(f"{max(both):.2f}")
    head = ["runs", "a run, µs", "beside the samples, µs", "of an empty call, µs", "both", "most"]
    return head, [row]


def memory(results: Row) -> Table:
    """One row a number of samples: what the parent held, and how much more than with the fewest."""
    measured = list(rows_of(results, "memory").values())
    if not measured:
        return NOT_MEASURED
    fewest = min(measured, key=lambda row: int(row["samples"]))
    rows = [
        [
            f"{row['samples']:,}",
            f"{row['sessions']:,}",
            f"{row['peak_rss_bytes'] / 1e6:.1f}",
            f"{(row['peak_rss_bytes'] - fewest['peak_rss_bytes']) / 1e6:+.1f}",
            f"{row['report_bytes'] / 1e6:.1f}",
            f"{row['seconds']:.0f}",
        ]
        for row in measured
    ]
    return ["samples", "sessions", "peak MB", "more than the fewest", "report, MB", "seconds"], rows
