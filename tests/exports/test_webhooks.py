"""Webhooks against a real receiver: signed, bounded, retried, never where they may not go."""

from __future__ import annotations

import base64
import secrets
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from api.exporting.exports import ExportUndelivered
from catalog.clock import Micros, to_micros
from outbound.addresses import ForbiddenAddress
from outbound.webhooks import Courier, DeliveryFailed, is_secret, signed
from storage.sql.exports import RunStatus
from tests.closed_world import close, line
from tests.exports.world import LOOPBACK, World
from tests.receiver import Receiver, receiving


def secret() -> str:
    """A new signing secret."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def now() -> Micros:
    """The machine's time: receivers judge a signature's age by it."""
    return to_micros(datetime.now(UTC))


def declared(made: World, receiver: Receiver, *keys: str, **given: object) -> None:
    """A webhook destination; the clock is the machine's, as the receiver's is."""
    tree = {"kind": "webhook", "url": receiver.url, "format": "json", "secrets": list(keys)}
    made.exports.put("x", tree | given, actor=None)
    made.clock.set(now())


def test_a_delivery_is_signed_by_every_secret(made: World) -> None:
    """While a secret is rotated, whoever holds either one can verify; a third one cannot."""
    old, new, other = secret(), secret(), secret()
    with receiving("200") as receiver:
        declared(made, receiver, new, old)
        close(made.database, [line(1), line(2)])
        (run,) = made.run()
    ((headers, body),) = receiver.got
    for key in (old, new):
        told = Webhook(key).verify(body, headers)
    assert told["type"] == "export.lines"
    assert [row["sequence"] for row in told["data"]["rows"]] == [1, 2]
    assert told["data"]["rows"][0]["amount"] == "1.50"
    assert told["data"]["rows"][0]["dimensions"] == {}
    assert headers["webhook-id"] == run["id"] == "x-00000001"
    assert headers["content-type"] == "application/json"
    with pytest.raises(WebhookVerificationError):
        Webhook(other).verify(body, headers)


@pytest.mark.parametrize("change", ["body", "id", "stale", "future", "version"])
def test_what_was_tampered_with_does_not_verify(change: str) -> None:
    """A byte, the id, a timestamp five minutes off, an unknown version."""
    key, body = secret(), b'{"a":1}'
    moment = datetime.now(UTC) + {
        "stale": -timedelta(minutes=6),
        "future": timedelta(minutes=6),
    }.get(change, timedelta())
    headers = signed(body, id="x-1", at=to_micros(moment), secrets=[key])
    if change == "body":
        body = b'{"a":2}'
    if change == "id":
        headers["webhook-id"] = "x-2"
    if change == "version":
        headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")
    with pytest.raises(WebhookVerificationError):
        Webhook(key).verify(body, headers)


def test_the_signature_is_the_specification_s() -> None:
    """The example of the Standard Webhooks specification, byte for byte."""
    found = signed(
        b'{"test": 2432232314}',
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=Micros(1_614_265_330 * 10**6),
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    )
    assert found["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert is_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert not any(
        map(
            is_secret,
            ["", "whsec_", "whsec_c2hvcnQ=", "whsec_***", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        )
    )


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("500", "answers 500"),
        ("404", "answers 404"),
        ("301", "redirects"),
        ("302", "redirects"),
        ("307", "redirects"),
        ("drop", "disconnected"),
        ("stall", "within 1 s"),
        ("drip", "within 1 s"),
        ("flood", "over 65536 bytes"),
    ],
)
def test_what_is_not_taken_is_tried_again(small: World, answer: str, says: str) -> None:
    """Whatever the other side does, the run waits with the reason, and the next try is the same."""
    with receiving(answer, "200") as receiver:
        declared(small, receiver, secret())
        close(small.database, [line(1)])
        begun = time.monotonic()
        with pytest.raises(ExportUndelivered, match=says):
            small.run()
        assert time.monotonic() - begun < 5
        held = small.store.run("x", 1)
        assert (held.status, held.attempts) == (RunStatus.PENDING, 1)
        assert held.next_attempt_at is not None
        small.clock.set(held.next_attempt_at)
        small.exports.turn("x", upto=1)
    assert small.store.run("x", 1).status is RunStatus.DELIVERED
    (first, first_body), (second, second_body) = receiver.got
    assert first_body == second_body
    assert first["webhook-id"] == second["webhook-id"]


def test_one_that_fails_keeps_no_later_one_waiting(small: World) -> None:
    """Runs follow each other; the one that failed comes later, under its own id."""
    with receiving("500", "200") as receiver:
        declared(small, receiver, secret(), batch=1)
        close(small.database, [line(1), line(2)])
        with pytest.raises(ExportUndelivered):
            small.run()
        assert [run["status"] for run in small.exports.runs("x", before=None, limit=9)] == [
            "delivered",
            "pending",
        ]
        small.clock.set(small.clock.now_us() + 10**8)
        small.exports.turn("x", upto=2)
    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert ids == ["x-00000001", "x-00000002", "x-00000001"]


def test_a_name_that_turns_inside_is_refused_then(small: World) -> None:
    """It was public when declared; when the delivery is made it is not: nothing is sent."""
    with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1].strip("/")
        courier = Courier(resolve=lambda *_: ["127.0.0.1"], timeout_s=1)
        with pytest.raises(ForbiddenAddress):
            courier.post(f"https://hooks.example:{port}/", b"{}", {})
        assert receiver.got == []


def test_the_connection_goes_to_the_address_that_was_judged() -> None:
    """A name that resolves differently a second time is asked only once."""
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    with receiving() as receiver:
        port = receiver.url.rsplit(":", 1)[1].strip("/")
        courier = Courier(allowed=LOOPBACK, resolve=rebinding, timeout_s=2)
        courier.post(f"http://hooks.inside:{port}/in", b"{}", {})
    assert asked == ["hooks.inside"]
    assert receiver.got[0][0]["host"] == f"hooks.inside:{port}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of hooks.inside, signed by itself, with its key in the same file."""
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=hooks.inside"
    command += " -addext subjectAltName=DNS:hooks.inside -keyout key.pem -out cert.pem"
    try:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


def test_the_certificate_is_of_the_name_not_of_the_address(certificate: Path) -> None:
    """Pinned to an address, TLS still proves the name; another name or signer is refused."""
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(certificate)
    trust = ssl.create_default_context(cafile=str(certificate))
    with receiving(tls=own) as receiver:
        port = receiver.url.rsplit(":", 1)[1].strip("/")

        def post(name: str, believed: ssl.SSLContext | None) -> int:
            courier = Courier(allowed=LOOPBACK, resolve=lambda *_: ["127.0.0.1"], trust=believed)
            return courier.post(f"https://{name}:{port}/", b"{}", {})

        assert post("hooks.inside", trust) == 200
        with pytest.raises(DeliveryFailed, match="Hostname mismatch"):
            post("other.inside", trust)
        with pytest.raises(DeliveryFailed, match="self-signed"):
            post("hooks.inside", None)
    assert len(receiver.got) == 1


def test_no_proxy_of_the_environment_takes_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name itself, and reach what may not be reached."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with receiving() as receiver:
        assert Courier(allowed=LOOPBACK).post(receiver.url, b"{}", {}) == 200


def test_a_body_over_the_limit_is_never_sent(small: World) -> None:
    """It says what to do instead."""
    with receiving() as receiver:
        with pytest.raises(DeliveryFailed, match="make 'batch' smaller"):
            Courier(allowed=LOOPBACK, body_bytes_max=10).post(receiver.url, b"x" * 11, {})
        assert receiver.got == []


def test_secrets_are_never_shown_and_stay_unless_replaced(made: World) -> None:
    """An update that names none keeps them; views tell only how each begins."""
    key = secret()
    with receiving() as receiver:
        declared(made, receiver, key)
        view, _ = made.exports.put(
            "x", {"kind": "webhook", "url": receiver.url, "format": "json", "batch": 5}, actor=None
        )
        assert view["secrets"] == [key[:12] + "…"]
        assert key not in str(made.exports.all())
        close(made.database, [line(1)])
        made.clock.set(now())
        made.run()
    Webhook(key).verify(receiver.got[0][1], receiver.got[0][0])
