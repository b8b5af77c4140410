"""The settings tree and its form as environment variables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import Limits, Settings, child_environment, read_settings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("TALLYMAN_")]:
        monkeypatch.delenv(name)


def test_children_read_back_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting has an environment form, and it loses nothing."""
    given = read_settings(
        data=Path("/tmp/x y"),
        port=0,
        gateways=3,
        sandbox=True,
        now="2026-01-31T23:59:00.000001+02:00",
        timezone="Europe/Berlin",
        sql_url="postgresql://u:p@h/d",
        limits=Limits(body_bytes_max=4096, header_s_max=2.5),
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)

    assert read_settings() == given


def test_the_command_line_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given on the command line comes from the environment."""
    monkeypatch.setenv("TALLYMAN_PORT", "9001")
    monkeypatch.setenv("TALLYMAN_HOST", "::1")
    monkeypatch.setenv("TALLYMAN_LIMITS__BODY_BYTES_MAX", "2048")
    monkeypatch.setenv("TALLYMAN_KEY", "for the client commands")

    settings = read_settings(port=9002, host=None)

    assert (settings.port, settings.host, settings.limits.body_bytes_max) == (9002, "::1", 2048)


@pytest.mark.parametrize(
    "wrong",
    [
        {"admin_key": "x" * 31},
        {"timezone": "Mars/Olympus"},
        {"now": "2026-01-31T23:59:00"},
        {"port": 65_536},
        {"gateways": 0},
        {"node": "../n"},
        {"limits": {"body_bytes_max": 0}},
        {"limits": {"no_such_limit": 1}},
    ],
    ids=str,
)
def test_values_out_of_bounds_are_refused(wrong: dict[str, object]) -> None:
    """A setting that would surprise later is refused at the start."""
    with pytest.raises(ValidationError):
        read_settings(**wrong)


def test_the_admin_key_stays_with_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Children get every setting but that one, and logs never show it."""
    secret = "s3cret-" * 6
    monkeypatch.setenv("TALLYMAN_ADMIN_KEY", secret)
    settings = read_settings()

    assert settings.admin_key is not None
    assert settings.admin_key.get_secret_value() == secret
    assert secret not in repr(settings)
    assert secret not in child_environment(settings).values()


def test_every_limit_has_bounds() -> None:
    """No number in the tree may be set to anything at all."""
    for model in (Settings, Limits):
        for name, info in model.model_fields.items():
            if info.annotation in {int, float}:
                bounds = {type(each).__name__ for each in info.metadata}
                assert bounds & {"Ge", "Gt"}, name
                assert bounds & {"Le", "Lt"}, name
                assert re.search(r"_max$|_min$|_ms$|^port$|^gateways$", name), name
