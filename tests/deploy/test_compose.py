"""docker-compose.yml, without a Docker engine: valid, consistent, and true to our own code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from sqlalchemy.engine import make_url

from api.hot.documentation import _OPEN
from api.service import ledger_url, sql_url
from api.settings import PREFIX, Settings
from tests.deploy.compose import FILE, Unset, compose

SCHEMA = json.loads(Path(__file__).with_name("compose-spec.json").read_text())
GIVEN = {
    "TALLYMAN_ADMIN_KEY": "a" * 32,
    "POSTGRES_PASSWORD": "postgrespassword",
    "CLICKHOUSE_PASSWORD": "clickhousepassword",
}
SERVICES: dict[str, Any] = compose(**GIVEN)["services"]
each_service = pytest.mark.parametrize("name", SERVICES)


def settings() -> Settings:
    """What the service reads from its environment there."""
    environment = SERVICES["tallyman"]["environment"]
    given = {name.removeprefix(PREFIX).lower(): value for name, value in environment.items()}
    return Settings(**given)


def test_it_is_a_compose_file() -> None:
    """The compose specification's own schema has no objection, before and after variables."""
    validator = jsonschema_rs.validator_for(SCHEMA)
    for document in (yaml.safe_load(FILE.read_text()), compose(**GIVEN)):
        found = [(list(e.instance_path), e.message) for e in validator.iter_errors(document)]
        assert found == []


def test_the_schema_would_object() -> None:
    """A key that is misspelt is found: the check above checks something."""
    document = compose(**GIVEN)
    document["services"]["valkey"]["comand"] = []
    assert list(jsonschema_rs.validator_for(SCHEMA).iter_errors(document))


@pytest.mark.parametrize("name", GIVEN)
def test_secrets_have_no_default(name: str) -> None:
    """Nothing starts with a password that stands in this repository."""
    with pytest.raises(Unset, match=name):
        compose(**{other: value for other, value in GIVEN.items() if other != name})


@each_service
def test_images_are_pinned(name: str) -> None:
    """A version of two numbers or more; only ours is built here."""
    service = SERVICES[name]
    if "build" in service:
        assert (FILE.parent / service["build"] / "Dockerfile").is_file()
        return
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", service["image"])


@each_service
def test_dependencies_exist_and_say_when_they_are_ready(name: str) -> None:
    """Who waits for health waits for a service that has a health check."""
    for other, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert SERVICES[other]["healthcheck"]["test"][0] == "CMD"


@each_service
def test_services_come_back(name: str) -> None:
    """A crash, or the machine's restart, needs nobody."""
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert "interval" in SERVICES[name]["healthcheck"]


def test_volumes_are_declared_and_used() -> None:
    """What must outlive a container has a named volume, and no volume is for nothing."""
    used = {mount.split(":")[0] for each in SERVICES.values() for mount in each.get("volumes", [])}
    assert used == set(compose(**GIVEN)["volumes"])
    keeps = {"tallyman": "/data", "postgres": "/var/lib/postgresql"}
    for name, path in (keeps | {"clickhouse": "/var/lib/clickhouse"}).items():
        assert SERVICES[name]["volumes"] == [f"{name}:{path}"]


def test_only_the_proxy_is_published() -> None:
    """Engines, and gateways without TLS, are for the others there."""
    assert [name for name, each in SERVICES.items() if "ports" in each] == ["proxy"]


def test_what_faces_the_network_may_do_little() -> None:
    """Proxy and service: nothing to write to, no capabilities, no way to gain any."""
    for name in ("proxy", "tallyman"):
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in SERVICES["tallyman"]


def test_its_settings_are_settings() -> None:
    """Every variable is one of ours, with a value in its bounds; two gateways, no sandbox."""
    read = settings()
    assert read.nodes == ("n1", "n2")
    assert not read.sandbox
    names = set(Settings.model_fields)
    for variable in SERVICES["tallyman"]["environment"]:
        assert variable.startswith(PREFIX)
        assert variable.removeprefix(PREFIX).lower().partition("__")[0] in names


def hosts() -> Iterator[tuple[str, int]]:
    """Where the service looks for its engines."""
    read = settings()
    assert read.clickhouse_url is not None
    for text in (sql_url(read), ledger_url(read), read.clickhouse_url.get_secret_value()):
        url = make_url(text)
        assert url.host is not None
        yield url.host, url.port or 5432


def test_its_engines_are_there() -> None:
    """Each address is a service of this file, on the port its engine listens on."""
    assert sorted(hosts()) == [("clickhouse", 8123), ("postgres", 5432), ("valkey", 6379)]
    assert set(SERVICES["tallyman"]["depends_on"]) == {host for host, _ in hosts()}


def test_names_and_passwords_agree() -> None:
    """The service logs in as whom the engines were told to expect."""
    read = settings()
    sql = make_url(sql_url(read))
    assert read.clickhouse_url is not None
    clickhouse = make_url(read.clickhouse_url.get_secret_value())
    for url, prefix, service in (
        (sql, "POSTGRES", "postgres"),
        (clickhouse, "CLICKHOUSE", "clickhouse"),
    ):
        told = SERVICES[service]["environment"]
        assert (url.username, url.password, url.database) == (
            told[f"{prefix}_USER"],
            told[f"{prefix}_PASSWORD"],
            told[f"{prefix}_DB"],
        )


def test_the_ledger_refuses_rather_than_forgets() -> None:
    """A full one must not evict: an account that is gone has no limit."""
    command = SERVICES["valkey"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


def test_the_health_check_is_code_that_asks_a_route() -> None:
    """It compiles, and asks what answers without a key, on the port the service listens on."""
    _, python, flag, code = SERVICES["tallyman"]["healthcheck"]["test"]
    assert (python, flag) == ("/opt/tallyman/bin/python", "-c")
    compile(code, "healthcheck", "exec")
    port = Settings.model_fields["port"].default
    (path,) = re.findall(rf"http://127\.0\.0\.1:{port}(/\w+)", code)
    assert path in _OPEN
    assert SERVICES["proxy"]["command"][-1] == f"tallyman:{port}"


def test_it_is_given_the_time_to_stop() -> None:
    """Docker kills later than the service itself would."""
    grace_s = float(SERVICES["tallyman"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > settings().stop_s_max
