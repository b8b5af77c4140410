"""The identifiers, one type each, and the one pattern they all match."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NewType

ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")

MeterId = NewType("MeterId", str)
FeatureId = NewType("FeatureId", str)
ProductId = NewType("ProductId", str)
PricebookId = NewType("PricebookId", str)
CustomerId = NewType("CustomerId", str)
ContractId = NewType("ContractId", str)

JurisdictionId = NewType("JurisdictionId", str)
"""Where tax is due, as the seller names it: ``DE``, ``US-CA``."""

NodeId = NewType("NodeId", str)
"""A gateway process and the log it owns."""

Seq = NewType("Seq", int)
"""The place of a record in one node's log: 1, 2, 3, … without gaps."""

SpecId = NewType("SpecId", str)
"""Digest of what a meter reads from an event (see :class:`catalog.meters.FactSpec`)."""

Subject = NewType("Subject", str)


class Kind(StrEnum):
    """The families of catalog objects, by the name of their section in a document."""

    METERS = "meters"
    FEATURES = "features"
    PRODUCTS = "products"
    PRICEBOOKS = "pricebooks"
    CUSTOMERS = "customers"
    CONTRACTS = "contracts"
    TAXES = "taxes"


def is_id(text: str) -> bool:
    """Whether ``text`` may name a catalog object."""
    return ID_PATTERN.fullmatch(text) is not None
