"""Request models from JSON values that were parsed strictly: mistakes become pointers."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ValidationError

from catalog.errors import FieldError, InvalidRequest
from catalog.grammar import step

M = TypeVar("M", bound=BaseModel)


def read_model(model: type[M], tree: object) -> M:
    """``tree`` as ``model``.

    Raises:
        InvalidRequest: with a pointer for each mistake.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        errors = []
        for each in error.errors(include_url=False, include_input=False):
            pointer = ""
            for part in each["loc"]:
                pointer = step(pointer, part)
            errors.append(FieldError(pointer=pointer, detail=each["msg"]))
        raise InvalidRequest(f"{len(errors)} invalid", errors=errors) from error
