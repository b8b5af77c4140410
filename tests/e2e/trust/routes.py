"""Every route of the public surface, one row each: who may use it, and how a limited key does.

``method path scopes limited``: ``scopes`` of which one is enough (``admin`` may always; ``-``:
only it; ``open``: nobody needs a key); ``limited`` is where the route names a customer or source
that a limited key has to be limited to, or nothing where limited keys are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("meters", "features", "products", "pricebooks", "customers", "contracts", "taxes")
KIND_ROWS = """
GET    /v1/{kind}               catalog,read
GET    /v1/{kind}/{id}          catalog,read
GET    /v1/{kind}/{id}/versions catalog,read
PUT    /v1/{kind}/{id}          catalog
DELETE /v1/{kind}/{id}          catalog
"""
ROWS = """
GET    /healthz                                         open
GET    /readyz                                          open
GET    /metrics                                         open
POST   /v1/keys                                         -
GET    /v1/keys                                         -
GET    /v1/keys/{key_id}                                -
DELETE /v1/keys/{key_id}                                -
GET    /v1/admin/clock                                  -
POST   /v1/admin/clock                                  -
POST   /v1/admin/verify                                 -
GET    /v1/admin/rebuild                                -
POST   /v1/admin/rebuild                                -
GET    /v1/audit                                        -
POST   /v1/catalog                                      catalog
POST   /v1/events                                       ingest               source-body
POST   /v1/events/void                                  ingest               source-body
GET    /v1/events                                       read
GET    /v1/events/unmatched                             read
GET    /v1/events/conflicts                             read
GET    /v1/events/{source}/{id}                         read                 source-path
GET    /v1/meters/{meter}/usage                         read                 customer-query
GET    /v1/totals                                       finance,read         customer-query
GET    /v1/totals/{line_id}/explain                     finance,read
GET    /v1/totals/{line_id}/events                      finance,read
GET    /v1/reports/revenue                              finance,read         customer-query
GET    /v1/reports/unbilled                             finance,read         customer-query
GET    /v1/reports/adjustments                          finance,read         customer-query
GET    /v1/periods/{period}                             finance,read
POST   /v1/periods/{period}/close                       finance
GET    /v1/invoices                                     finance,read         customer-query
GET    /v1/invoices/{invoice}                           finance,read
POST   /v1/invoices/issue                               finance
POST   /v1/invoices/{invoice}/issue                     finance
POST   /v1/invoices/{invoice}/void                      finance
GET    /v1/customers/{customer}/current                 finance,read         customer-path
POST   /v1/quotes                                       catalog,finance
POST   /v1/simulations                                  catalog,finance
GET    /v1/exports                                      finance,read
POST   /v1/exports                                      finance
GET    /v1/exports/{export}                             finance,read
PUT    /v1/exports/{export}                             finance
DELETE /v1/exports/{export}                             finance
POST   /v1/exports/{export}/run                         finance
GET    /v1/exports/{export}/runs                        finance,read
POST   /v1/exports/{export}/runs/{number}/replay        finance
POST   /v1/customers/{customer}/grants                  catalog,entitlements customer-path
GET    /v1/customers/{customer}/grants                  catalog,entitlements,read customer-path
GET    /v1/customers/{customer}/grants/{grant_id}       catalog,entitlements,read customer-path
DELETE /v1/customers/{customer}/grants/{grant_id}       catalog,entitlements customer-path
GET    /v1/customers/{customer}/entitlements            entitlements,read    customer-path
GET    /v1/customers/{customer}/entitlements/{feature}  entitlements,read    customer-path
POST   /v1/customers/{customer}/entitlements/consume    entitlements         customer-path
POST   /v1/customers/{customer}/entitlements/reserve    entitlements         customer-path
POST   /v1/customers/{customer}/entitlements/settle     entitlements         customer-path
POST   /v1/customers/{customer}/entitlements/release    entitlements         customer-path
POST   /v1/entitlements/check                           entitlements         customer-body
"""
FILLED = {"number": "1", "period": "2026-01"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One route and who may use it."""

    method: str
    template: str
    scopes: frozenset[str]
    open: bool
    limited: str

    @property
    def name(self) -> str:
        """As OpenAPI names it."""
        return f"{self.method} {self.template}"

    @property
    def has_body(self) -> bool:
        """Whether a body is sent."""
        return self.method in {"POST", "PUT"}

    def url(self, named: str) -> str:
        """A request's target that names a customer or source, wherever the route does so."""
        filled = []
        for part in self.template.split("/"):
            about = part in {"{customer}", "{source}"} or (
                part == "{id}" and self.template.startswith("/v1/customers/")
            )
            unnamed = FILLED.get(part[1:-1], "none") if part.startswith("{") else part
            filled.append(named if about else unnamed)
        query = f"?customer={named}&period=2026-01" if self.limited == "customer-query" else ""
        if "/usage" in self.template:
            query = query.replace("&period=2026-01", "&from=2026-01-01T00:00:00Z")
        return "/".join(filled) + query

    def body(self, named: str) -> object:
        """A body that names them, wherever the route does so; else one that changes nothing."""
        if self.limited == "customer-body":
            return {"checks": [{"customer": named, "items": [{"feature": "tokens"}]}]}
        if self.template == "/v1/events":
            return [
                {
                    "specversion": "1.0",
                    "id": f"of-{named}",
                    "source": named,
                    "type": "t",
                    "subject": "nobody",
                }
            ]
        if self.template == "/v1/events/void":
            return [{"source": named, "id": "nothing"}]
        return {}


def _row(text: str) -> Row:
    method, template, scopes, *limited = text.split()
    return Row(
        method=method,
        template=template,
        scopes=frozenset() if scopes in {"-", "open"} else frozenset(scopes.split(",")),
        open=scopes == "open",
        limited=limited[0] if limited else "",
    )


def all_rows() -> list[Row]:
    """The whole surface."""
    texts = ROWS.strip().splitlines()
    for kind in KINDS:
        texts += KIND_ROWS.strip().replace("{kind}", kind).splitlines()
    found = [_row(text) for text in texts]
    for index, row in enumerate(found):
        if row.method == "GET" and row.template.startswith("/v1/customers/{id}"):
            found[index] = _row(f"GET {row.template} catalog,read customer-path")
    return found
