"""Who pays (customers) and under which terms (contracts)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from catalog.ids import ContractId, CustomerId, PricebookId, ProductId, Subject
from catalog.pricebooks import Entitlement, Invoicing, Moment, Price, Prorate
from catalog.taxes import CustomerTax


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectClaim:
    """A subject whose usage this customer pays for, from (inclusive) until (exclusive)."""

    subject: Subject
    since: Moment | None = None
    until: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Who pays. ``entity`` is the seller's legal entity; one parent, no cycles.

    ``tax`` says where tax is due; without it nothing can be invoiced once there are tax tables.
    """

    id: CustomerId
    name: str
    subjects: tuple[SubjectClaim, ...]
    parent: CustomerId | None = None
    entity: str | None = None
    tax: CustomerTax | None = None
    external_ids: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceOverride:
    """What a contract says about a product's price.

    Exactly one of ``price`` (replaces, or adds where there is none), ``multiply`` (scales the
    list price), ``remove``. ``overrides`` names one list price of the product; without it all of
    the product's are meant. ``additional`` stands beside the list price.
    """

    product: ProductId
    price: Price | None = None
    multiply: Decimal | None = None
    remove: bool = False
    overrides: str | None = None
    additional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Discount:
    """A contract's discount on the lines of ``products`` (null: all), percent or amount."""

    percent: Decimal | None = None
    amount: Decimal | None = None
    products: tuple[ProductId, ...] | None = None
    since: Moment | None = None
    until: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Minimum:
    """What a contract bills at least, every so many months."""

    amount: Decimal
    every_months: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """A promised spend: what is short is billed (true-up), what is beyond is multiplied."""

    amount: Decimal
    every_months: int | None = None
    overage_multiplier: Decimal | None = None
    true_up: bool = True
    products: tuple[ProductId, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """Money paid before, burned by priority, then expiry, then age."""

    id: str
    amount: Decimal
    priority: int = 0
    effective_at: Moment | None = None
    expires_at: Moment | None = None
    products: tuple[ProductId, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Amendment:
    """A change of terms from ``effective_from`` on. What it names replaces what stood."""

    effective_from: Moment
    prices: tuple[PriceOverride, ...] | None = None
    discounts: tuple[Discount, ...] | None = None
    commitments: tuple[Commitment, ...] | None = None
    pricebook: PricebookId | None = None
    end: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A customer's terms from ``start`` (inclusive) to ``end`` (exclusive; null = open).

    With a pricebook, currency, invoicing and prorate default to its; without one, currency and
    invoicing are required. ``timezone`` is an IANA name (null: the service's).
    """

    id: ContractId
    customer: CustomerId
    start: Moment
    end: Moment | None = None
    pricebook: PricebookId | None = None
    currency: str | None = None
    invoicing: Invoicing | None = None
    prorate: Prorate | None = None
    timezone: str | None = None
    pin: bool = False
    entity: str | None = None
    prices: tuple[PriceOverride, ...] = ()
    discounts: tuple[Discount, ...] = ()
    minimum: Minimum | None = None
    commitments: tuple[Commitment, ...] = ()
    credits: tuple[Credit, ...] = ()
    trial: timedelta | None = None
    entitlements: tuple[Entitlement, ...] = ()
    amendments: tuple[Amendment, ...] = ()
    external_ids: tuple[tuple[str, str], ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()
