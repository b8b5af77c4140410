"""What ``POST /v1/catalog`` takes: a whole document and how to apply it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.models.strictly import read_model


class ApplyRequest(BaseModel):
    """A catalog document, in the form of the YAML files.

    ``prune`` retires what the document does not name. ``dry_run`` changes nothing.
    ``expected_revision`` refuses to act on any other catalog than the one that was looked at.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    document: Any
    prune: bool = False
    dry_run: bool = False
    expected_revision: int | None = Field(default=None, ge=0)


def read_apply_request(tree: object) -> ApplyRequest:
    """This will read a request from JSON values that were parsed strictly.

    Raises:
        InvalidRequest: with a pointer for each mistake.
    """
    return read_model(ApplyRequest, tree)
