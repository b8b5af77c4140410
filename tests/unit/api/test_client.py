"""The commands' HTTP client: what it sends, and how it says what went wrong."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import httpx
import pytest
import typer
from rich.console import Console

from api.cli.client import (
    ApiClient,
    ApiProblem,
    InvalidSettings,
    Unreachable,
    errors_shown,
)

Answer = Callable[[httpx.Request], httpx.Response]


def client(answer: Answer, key: str | None = "k") -> ApiClient:
    """A client whose service is a function."""
    return ApiClient("http://service", key, transport=httpx.MockTransport(answer))


def shown(error: Exception) -> tuple[int, str]:
    """Exit code and text of a command that fails with ``error``."""
    text = io.StringIO()
    with pytest.raises(typer.Exit) as raised, errors_shown(Console(file=text, width=80)):
        raise error
    return raised.value.exit_code, text.getvalue()


def test_requests_carry_the_key_and_exact_json() -> None:
    """Texts go out as UTF-8; parameters that are None are left out."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"ok": True})

    with client(answer) as api:
        assert api.put("/v1/products/p", {"name": "Zürich"}) == {"ok": True}
        api.get("/v1/totals", {"period": "2026-01", "customer": None, "zeros": True})
        api.post_bytes("/v1/events", b"\x00", content_type="application/x-thing")
    put, get, post = seen
    assert put.content == '{"name": "Zürich"}'.encode()
    assert put.headers["authorization"] == "Bearer k"
    assert str(get.url) == "http://service/v1/totals?period=2026-01&zeros=true"
    assert (post.content, post.headers["content-type"]) == (b"\x00", "application/x-thing")
    client(lambda request: seen.append(request) or httpx.Response(204), None).delete("/x")
    assert "authorization" not in seen[-1].headers


def test_lists_are_read_page_after_page() -> None:
    """Every item once, in order, with the caller's parameters on each page."""
    pages = {None: (["a", "b"], "1"), "1": ([], "2"), "2": (["c"], None)}

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["status"] == "open"
        items, cursor = pages[request.url.params.get("cursor")]
        return httpx.Response(200, json={"items": items, "next_cursor": cursor})

    assert list(client(answer).items("/v1/things", {"status": "open"})) == ["a", "b", "c"]


def test_other_formats_come_with_their_headers() -> None:
    """The bytes are untouched; Accept says what is wanted."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, content=b"PAR1", headers={"tallyman-checksum": request.headers["accept"]}
        )

    content, headers = client(answer).get_bytes("/v1/totals", accept="text/csv")
    assert (content, headers["tallyman-checksum"]) == (b"PAR1", "text/csv")


def test_a_problem_keeps_what_the_service_said() -> None:
    """Code, detail and fields reach the screen, with exit code 1."""
    problem = {
        "code": "invalid_request",
        "detail": "one [bold] mistake",
        "errors": [{"pointer": "/a", "detail": "wrong"}],
    }
    with pytest.raises(ApiProblem) as raised:
        client(lambda _: httpx.Response(422, content=json.dumps(problem))).get("/x")
    assert (raised.value.status, raised.value.problem) == (422, problem)
    code, text = shown(raised.value)
    assert code == 1
    assert text == "error: one [bold] mistake (422 invalid_request)\n  /a: wrong\n"


def test_an_error_that_is_no_problem_document_is_shown_too() -> None:
    """A proxy in between answers in its own way."""
    with pytest.raises(ApiProblem, match="bad gateway"):
        client(lambda _: httpx.Response(502, text="<h1>bad gateway</h1>")).get("/x")
    with pytest.raises(Unreachable, match="not JSON"):
        client(lambda _: httpx.Response(200, text="hello")).get("/x")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx.ConnectError("refused"), "nothing answers at http://service"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.RemoteProtocolError("gone"), "failed: gone"),
    ],
)
def test_silence_is_exit_code_two(error: Exception, words: str) -> None:
    """Whoever scripts this can tell a refusal from a service that is away."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(Unreachable) as raised:
        client(answer).get("/x")
    code, text = shown(raised.value)
    assert code == 2
    assert words in text.replace("\n", " ")


def test_a_missing_key_says_what_to_set() -> None:
    """The commonest first mistake."""
    with pytest.raises(ApiProblem) as raised:
        client(lambda _: httpx.Response(401, json={"code": "unauthenticated"}), None).get("/x")
    assert "TALLYMAN_KEY" in shown(raised.value)[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("URL", "nonsense"), ("URL", "http://[::1"), ("KEY", "é"), ("KEY", "two\nlines")],
)
def test_a_wrong_environment_is_said_not_raised(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """An address or a key that cannot be one names its variable; nothing was asked, so 2."""
    monkeypatch.setenv(f"TALLYMAN_{name}", value)
    with pytest.raises(InvalidSettings) as raised:
        ApiClient.from_environment()
    code, text = shown(raised.value)
    assert code == 2
    assert f"TALLYMAN_{name}" in text
