"""What was seen, over time, as one PNG."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.traffic.samples import Samples, Tally, percentile_ms

POINTS_MAX = 150
COLOURS = ("#1b6ca8", "#d1495b", "#2f9e6e", "#e09f3e", "#7b4b94", "#3a3a3a", "#8c564b", "#17a2b8")
KINDS = ("post one", "post batch", "check", "consume", "totals", "current", "apply prices")
_COLOUR_OF = dict(zip(KINDS, COLOURS, strict=False))
Line = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at a moment (seconds since 1970)."""

    at_s: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """A chart of lines over seconds since the run began. NaN leaves a gap."""

    title: str
    unit: str
    lines: Mapping[str, Line]
    dashed: Mapping[str, Line] = field(default_factory=dict)
    logarithmic: bool = False


def panels_of(samples: Samples) -> list[Panel]:
    """The charts of any run: latency, throughput, events, decisions, failures."""
    width = _width_s(samples)
    charts = [
        _latency(samples, width),
        _requests(samples, width),
        _tally(samples, width, Tally.EVENTS, "Events, as they were answered", "events/s"),
        _tally(samples, width, Tally.DECISIONS, "Decisions: allowed, or why denied", "decisions/s"),
        _tally(samples, width, Tally.FAILED, "Requests that failed", "requests/s"),
    ]
    return [chart for chart in charts if chart.lines or chart.title.startswith("Latency")]


def draw(
    path: Path, *, title: str, panels: Sequence[Panel], marks: Sequence[Mark] = (), began_s: float
) -> None:
    """Write the panels below each other, with ``marks`` through all of them."""
    figure = Figure(figsize=(12, 1.0 + 2.9 * len(panels)), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=13, fontweight="bold")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for place, (axis, panel) in enumerate(zip(axes, panels, strict=True)):
        _draw_panel(axis, panel)
        for mark in marks:
            _draw_mark(axis, mark, began_s, named=place == 0)
    axes[-1].set_xlabel("seconds since the run began")
    figure.savefig(path, dpi=110, facecolor="white")


def _draw_panel(axis: Axes, panel: Panel) -> None:
    cycle = dict(zip(panel.lines, COLOURS * 9, strict=False))
    colours = {name: _COLOUR_OF.get(name, cycle[name]) for name in panel.lines}
    for name, (x, y) in panel.lines.items():
        marker = "o" if sum(not math.isnan(value) for value in y) < len(x) / 2 else None
        axis.plot(x, y, label=name, color=colours[name], linewidth=1.5, marker=marker, markersize=3)
    for name, (x, y) in panel.dashed.items():
        colour = colours.get(name.removesuffix(" p50"), "#888888")
        axis.plot(x, y, color=colour, linewidth=0.9, linestyle=":")
    if panel.logarithmic:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.set_title(panel.title, fontsize=10, loc="left")
    axis.set_ylabel(panel.unit, fontsize=9)
    axis.grid(visible=True, color="#e4e4e4", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    if panel.lines:
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)


def _draw_mark(axis: Axes, mark: Mark, began_s: float, *, named: bool) -> None:
    at = mark.at_s - began_s
    axis.axvline(at, color="#aa0000", linewidth=0.8, linestyle="--", alpha=0.6)
    if named:
        axis.annotate(
            mark.label,
            (at, 1.0),
            xycoords=("data", "axes fraction"),
            rotation=90,
            va="top",
            ha="right",
            fontsize=7,
            color="#aa0000",
        )


def _width_s(samples: Samples) -> int:
    """Seconds a point stands for."""
    first, last = samples.span()
    return max(1, math.ceil((last - first + 1) / POINTS_MAX))


def _middles(samples: Samples, width: int) -> list[float]:
    first, last = samples.span()
    return [(at + 0.5) * width for at in range((last - first) // width + 1)]


def _latency(samples: Samples, width: int) -> Panel:
    first = samples.span()[0]
    found: dict[tuple[str, int], Counter[int]] = defaultdict(Counter)
    for (second, kind, bucket), n in samples.latencies.items():
        found[kind, (second - first) // width][bucket] += n
    x = _middles(samples, width)

    def percentile(kind: str, percent: float) -> Line:
        return x, [percentile_ms(found.get((kind, at), {}), percent) for at in range(len(x))]

    kinds = [kind for kind in samples.kinds() if samples.histogram(kind)]
    return Panel(
        title=f"Latency: p99, and p50 dotted ({width} s a point)",
        unit="ms",
        lines={kind: percentile(kind, 99) for kind in kinds},
        dashed={f"{kind} p50": percentile(kind, 50) for kind in kinds},
        logarithmic=True,
    )


def _requests(samples: Samples, width: int) -> Panel:
    found: Counter[tuple[str, int]] = Counter()
    for (second, kind, _), n in samples.latencies.items():
        found[kind, second] += n
    return _rates(samples, width, found, "Throughput: requests answered well", "requests/s")


def _tally(samples: Samples, width: int, tally: Tally, title: str, unit: str) -> Panel:
    found: Counter[tuple[str, int]] = Counter()
    for (second, each, name), n in samples.counts.items():
        if each == tally:
            found[name, second] += n
    return _rates(samples, width, found, title, unit)


def _rates(
    samples: Samples, width: int, found: Mapping[tuple[str, int], int], title: str, unit: str
) -> Panel:
    first = samples.span()[0]
    x = _middles(samples, width)
    heights: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(x))
    for (name, second), n in found.items():
        heights[name][(second - first) // width] += n / width
    lines: dict[str, Line] = {name: (x, heights[name]) for name in sorted(heights)}
    return Panel(title=title, unit=unit, lines=lines)
