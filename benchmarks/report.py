"""A run as Markdown: the targets, then the figures behind them."""

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.load import BATCH, Load
from benchmarks.results import Results
from benchmarks.targets import (
    ENGINES,
    MIX,
    NO_WORK,
    TEXTBOOK,
    figure,
    grown_from,
    ratios,
    spread,
    table,
)

_WAYS = {
    "multipart": "multipart (`curl -F`)",
    "raw": "raw body",
    "json": "JSON, base64",
    "batch": f"batches of {BATCH} (`/predict/batch`; images/s, latency of the whole batch)",
}


def service_report(results: Results) -> str:
    """Everything that `make bench` measured."""
    sections = [
        ["# Throughput, latency, memory and start", "", results.conditions],
        ["## Targets", "", *table(results)],
        *_loads(results),
        ["![Throughput by connections](throughput.png)"],
        _processor_time(results),
        _textbook_and_workers(results),
        _mix(results),
        _photos(results),
        _start(results),
        _memory(results),
    ]
    return "\n\n".join("\n".join(section) for section in sections if section) + "\n"


def rows(head: Sequence[str], body: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body)]


def latency(loads: Sequence[Load]) -> str:
    """p50 and p99 in milliseconds, each the median of its rounds, and the share of refused images."""
    if not loads:
        return "–"
    answered = [each for each in loads if each.requests]
    if not answered:
        return "none in time"
    p50, p99 = (statistics.median(ms) for ms in zip(*((each.p50_ms, each.p99_ms) for each in answered), strict=True))
    refused = statistics.fmean(each.refused for each in answered)
    return f"{figure(p50)} · {figure(p99)}" + (f" ({100 * refused:.1f} % refused)" if refused else "")


def _loads(results: Results) -> list[list[str]]:
    sections = []
    for way, title in _WAYS.items():
        names = [name for name in (NO_WORK, *ENGINES) if any(key[:2] == (name, way) for key in results.loads)]
        chosen = sorted({connections for name, kind, connections in results.loads if kind == way and name in names})
        what = "images/s" if way == "batch" else "requests/s"
        head = ["connections", *(f"{name}, {column}" for name in names for column in (what, "p50 · p99 ms"))]
        body = [
            [str(connections)]
            + [
                cell
                for name in names
                for cell in (
                    spread(results.rates(name, way, connections)),
                    latency(results.loads[name, way, connections]),
                )
            ]
            for connections in chosen
        ]
        if body:
            sections.append([f"## {title[0].upper()}{title[1:]}", "", *rows(head, body)])
    return sections


def _processor_time(results: Results) -> list[str]:
    names = (NO_WORK, *ENGINES)
    body = [
        [way, *(spread([each.cpu_ms for each in results.loads.get((name, way, 16), [])]) for name in names)]
        for way in _WAYS
    ]
    head = ["16 connections", *(f"{name}, ms/image" for name in names)]
    return ["## CPU time of the server", "", *rows(head, body)]


def _textbook_and_workers(results: Results) -> list[str]:
    body = []
    for (name, way, connections), loads in results.loads.items():
        if name in (NO_WORK, *ENGINES):
            continue
        engine = name.partition(",")[0]
        grown = ratios(results.rates(name, way, connections), results.rates(engine, way, connections))
        body.append([name, way, str(connections), spread([each.rate for each in loads]), latency(loads)])
        body[-1].append("" if name == TEXTBOOK else spread(grown))
    head = ["server", "upload", "connections", "images/s", "p50 · p99 ms", "÷ one worker"]
    return ["## FastAPI + `model.predict`, and two workers", "", *rows(head, body)] if body else []


def _mix(results: Results) -> list[str]:
    bare = results.rates(NO_WORK, *MIX)
    body = [
        [name, spread(rates), latency(results.loads[name, *MIX]), spread(ratios(rates, bare))]
        for name in (NO_WORK, *ENGINES)
        if (rates := results.rates(name, *MIX))
    ]
    head = [f"multipart, {MIX[1]} connections", "requests/s", "p50 · p99 ms", "÷ bare FastAPI that decodes"]
    return ["## Real pictures in random order", "", *rows(head, body)] if body else []


def _photos(results: Results) -> list[str]:
    colour, grey = ([pair[index] for pair in results.full_decode_ms] for index in (0, 1))
    body = [["`cv2.imdecode` in full, colour", spread(colour), "", ""]]
    body += [["`cv2.imdecode` in full, grey", spread(grey), "", ""]]
    for engine, measured in results.photo_ms.items():
        for index, what in enumerate(("decode + preprocess (Server-Timing)", "all stages (Server-Timing)", "client")):
            ms = [each[index] for each in measured]
            body.append([f"{engine}: {what}", spread(ms), spread(ratios(ms, colour)), spread(ratios(ms, grey))])
    head = ["", "ms", "÷ `imdecode` in colour", "÷ `imdecode` in grey"]
    return ["## A 12-megapixel photo (JPEG, one at a time)", "", *rows(head, body)]


def _start(results: Results) -> list[str]:
    body = [[name, spread(seconds)] for name, seconds in results.start_s.items()]
    return ["## Start", "", *rows(["process start to ready", "seconds"], body)]


def _memory(results: Results) -> list[str]:
    body = [[f"`{name}`" if " " in name else f"{name}, ready", spread(mb)] for name, mb in results.resident_mb.items()]
    for engine, series in results.growth.items():
        seen = [grown_from(results), series[-1][0]]
        for least in seen:
            requests, mb = next(each for each in series if each[0] >= least)
            body.append([f"{engine}, after {requests:,} requests", f"{mb:.1f}"])
    return ["## Memory", "", *rows(["process", "resident MB (2^20 bytes)"], body)]
