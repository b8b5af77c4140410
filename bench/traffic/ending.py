"""The end of a run: what the service counted, the verdict, the report, the exit code."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bench.machine import commit, processor
from bench.traffic.page import Report, write_report
from bench.traffic.run import Run, run_of
from bench.traffic.service import client_of, count_back
from bench.traffic.verdict import Verdict, judge, read_limits


def conclude(environment: Any) -> None:
    """Judge the run of a locust environment, write its report and set the exit code."""
    environment.runner.stop()
    run = run_of(environment)
    options = environment.parsed_options
    began_s = time.monotonic()
    with client_of(environment.host, run) as client:
        counted = count_back(client, run)
    settled_s = time.monotonic() - began_s
    verdict = judge(run.samples, read_limits(options.limits), counted)
    raised = [f"a user raised {each['msg']}" for each in environment.runner.exceptions.values()]
    verdict = replace(verdict, besides=raised)
    report = Report(
        title=f"Tallyman under load: {options.num_users} users, pace {options.pace:g}",
        samples=run.samples,
        verdict=verdict,
        facts=_facts(environment, run),
        data={"pace": run.pace, "offered_per_s": _offered(environment), "settled_s": settled_s},
    )
    page = write_report(options.report, report)
    print(in_words(verdict))
    print(f"report: {page}")
    environment.process_exit_code = 0 if verdict.passed else 1


def in_words(verdict: Verdict) -> str:
    """The verdict for a terminal."""
    head = f"{'':14}{'requests':>10}{'failed':>8}{'p50 ms':>10}{'p99 ms':>10}"
    rows = [
        f"{each.kind:14}{each.requests:>10,}{each.failed:>8,}{each.p50_ms:>10,.1f}"
        f"{each.p99_ms:>10,.1f}  {each.missed or ''}".rstrip()
        for each in verdict.outcomes
    ]
    counted = [
        f"{each.what}: {each.acknowledged:,} acknowledged, {each.unanswered:,} never answered, "
        f"{'no answer how many are' if each.counted is None else f'{each.counted:,}'} counted"
        for each in verdict.counted
    ]
    end = "passed" if verdict.passed else "MISSED: " + "; ".join(verdict.missed)
    return "\n".join((head, *rows, *counted, end))


def _offered(environment: Any) -> float:
    """The requests a second all users together want to make."""
    users: Mapping[str, int] = environment.runner.final_user_classes_count
    pace = run_of(environment).pace
    return sum(
        users.get(each.__name__, 0) * pace / each.period_s for each in environment.user_classes
    )


def _facts(environment: Any, run: Run) -> Mapping[str, str]:
    options = environment.parsed_options
    return {
        "host": str(environment.host),
        "run": run.id,
        "users": f"{options.num_users}, {options.spawn_rate:g} a second until all are there",
        "pace": f"{run.pace:g} times their own" if run.pace else "without a pause",
        "batch": f"about {run.batch:,} events",
        "customers": f"{run.customers:,}",
        "limits": str(options.limits),
        "generator": f"locust on {processor()}, Python {platform.python_version()}",
        "commit": commit(),
    }
