"""The report of a run: ``report.html`` (one file, chart inside), ``charts.png``, ``run.json``."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.traffic.charts import Mark, Panel, draw, panels_of
from bench.traffic.samples import Samples, Tally
from bench.traffic.verdict import Verdict

PAGE, CHARTS, DATA = "report.html", "charts.png", "run.json"
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report shows. ``facts``: how it was measured; ``panels`` come after the usual ones."""

    title: str
    samples: Samples
    verdict: Verdict
    facts: Mapping[str, str]
    marks: Sequence[Mark] = ()
    panels: Sequence[Panel] = ()
    data: Mapping[str, object] = field(default_factory=dict)
    """More for ``run.json``."""


def write_report(directory: Path, report: Report) -> Path:
    """Write page, chart and data into ``directory``, over what is there; answers the page."""
    directory.mkdir(parents=True, exist_ok=True)
    began_s, ended_s = report.samples.span()
    chart = directory / CHARTS
    draw(
        chart,
        title=report.title,
        panels=[*panels_of(report.samples), *report.panels],
        marks=report.marks,
        began_s=began_s,
    )
    page = _TEMPLATES.get_template("page.html").render(
        title=report.title,
        verdict=report.verdict,
        facts=report.facts,
        marks=[(round(mark.at_s - began_s, 1), mark.label) for mark in report.marks],
        began=datetime.fromtimestamp(began_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        seconds=ended_s - began_s + 1,
        decisions=_totals(report.samples, Tally.DECISIONS),
        events=_totals(report.samples, Tally.EVENTS),
        chart=base64.b64encode(chart.read_bytes()).decode(),
    )
    (directory / PAGE).write_text(page)
    (directory / DATA).write_text(json.dumps(_data(report)))
    return directory / PAGE


def _totals(samples: Samples, tally: Tally) -> dict[str, int]:
    return {name: samples.total(tally, name) for name in samples.names(tally)}


def _data(report: Report) -> dict[str, object]:
    return {
        **report.data,
        "title": report.title,
        "seconds": report.samples.span()[1] - report.samples.span()[0] + 1,
        "besides": list(report.verdict.besides),
        "passed": report.verdict.passed,
        "missed": report.verdict.missed,
        "facts": dict(report.facts),
        "outcomes": [
            {
                "kind": each.kind,
                "requests": each.requests,
                "failed": each.failed,
                "p50_ms": None if each.p50_ms != each.p50_ms else round(each.p50_ms, 3),
                "p99_ms": None if each.p99_ms != each.p99_ms else round(each.p99_ms, 3),
            }
            for each in report.verdict.outcomes
        ],
        "counted": [
            {
                "what": each.what,
                "acknowledged": each.acknowledged,
                "unanswered": each.unanswered,
                "counted": each.counted,
            }
            for each in report.verdict.counted
        ],
        "samples": report.samples.to_json(),
    }
