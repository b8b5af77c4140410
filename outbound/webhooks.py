"""Signed webhooks (Standard Webhooks): one POST, judged, pinned, bounded in time and size."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from standardwebhooks import Webhook

from catalog.clock import Micros, to_datetime
from catalog.errors import DomainError
from outbound.addresses import Endpoint, Network, Resolve, endpoint, resolve_by_system

SECRET_PREFIX = "whsec_"  # noqa: S105  (what marks a secret, not one)
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64
SECRETS_MAX = 5
SHOWN_CHARACTERS = 200


class DeliveryFailed(DomainError):
    """The other side did not take it; it will be tried again."""

    code = "delivery_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Courier:
    """How webhooks are sent.

    Attributes:
        allowed: networks inside that may be reached.
        timeout_s: from resolving the name to the last byte of the answer.
        body_bytes_max: of what is sent.
        answer_bytes_max: of the answer, which is only read to see it end.
        resolve: how a name becomes addresses.
        trust: whose certificates are believed; the usual authorities without.
    """

    allowed: tuple[Network, ...] = ()
    timeout_s: float = 15
    body_bytes_max: int = 8 * 1024 * 1024
    answer_bytes_max: int = 64 * 1024
    resolve: Resolve = field(default=resolve_by_system)
    trust: ssl.SSLContext | None = None

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """POST ``body`` and answer the status, a 2xx.

        Raises:
            ForbiddenAddress: the URL leads inside.
            Unresolved: the name has no address.
            DeliveryFailed: no connection, no answer in time, too long an answer, a redirect or
                any status but 2xx.
        """
        if len(body) > self.body_bytes_max:
            raise DeliveryFailed(
                f"{len(body)} bytes are over {self.body_bytes_max} for a webhook: "
                "make 'batch' smaller"
            )
        return asyncio.run(self._post(url, body, headers))

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        try:
            async with asyncio.timeout(self.timeout_s):
                to = await asyncio.to_thread(
                    endpoint, url, allowed=self.allowed, resolve=self.resolve
                )
                return await self._send(to, body, headers)
        except TimeoutError as error:
            raise DeliveryFailed(f"no answer within {self.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            reason = str(error) or type(error).__name__
            raise DeliveryFailed(reason[:SHOWN_CHARACTERS]) from error

    async def _send(self, to: Endpoint, body: bytes, headers: dict[str, str]) -> int:
        # The certificate is checked against the name, the connection goes to the address. No
        # proxy, netrc or cookie of the environment takes part.
        async with (
            httpx.AsyncClient(
                trust_env=False,
                follow_redirects=False,
                timeout=self.timeout_s,
                verify=self.trust or True,
            ) as client,
            client.stream(
                "POST",
                to.pinned,
                content=body,
                headers={**headers, "host": to.url.authority, "accept-encoding": "identity"},
                extensions={"sni_hostname": to.url.host},
            ) as answer,
        ):
            read = 0
            async for part in answer.aiter_raw():
                read += len(part)
                if read > self.answer_bytes_max:
                    raise DeliveryFailed(f"the answer is over {self.answer_bytes_max} bytes")
            if answer.is_redirect:
                raise DeliveryFailed(f"it redirects ({answer.status_code}), which is not followed")
            if not answer.is_success:
                raise DeliveryFailed(f"it answers {answer.status_code}")
            return answer.status_code


def signed(
    body: bytes,
    *,
    id: str,  # noqa: A002
    at: Micros,
    secrets: Sequence[str],
) -> dict[str, str]:
    """The headers of Standard Webhooks: id, whole seconds, one signature a secret.

    Args:
        body: UTF-8 text, signed as it is sent.
        id: the same at every attempt, so that the receiver can drop a copy.
        at: when this attempt is made; receivers refuse what is over five minutes off.
        secrets: ``whsec_…``, the newest first; several while they are being rotated.
    """
    text, moment = body.decode(), to_datetime(at)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(at // 1_000_000),
        "webhook-signature": " ".join(Webhook(secret).sign(id, moment, text) for secret in secrets),
    }


def is_secret(text: str) -> bool:
    """Whether ``text`` is ``whsec_`` and the base64 of 24 to 64 bytes."""
    if not text.startswith(SECRET_PREFIX):
        return False
    try:
        raw = base64.b64decode(text[len(SECRET_PREFIX) :], validate=True)
    except (binascii.Error, ValueError):
        return False
    return SECRET_BYTES_MIN <= len(raw) <= SECRET_BYTES_MAX
