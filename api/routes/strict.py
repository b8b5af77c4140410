"""A route that refuses query parameters nobody declared."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from catalog.errors import FieldError, InvalidRequest


class UnknownParameter(InvalidRequest):
    """A query parameter is not one of the route's: a typo would silently change the answer."""

    code = "unknown_parameter"


class StrictRoute(APIRoute):
    """The route class of every router: ``APIRouter(route_class=StrictRoute)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler in the check."""
        handle = super().get_route_handler()
        known = frozenset(_query_names(self.dependant))

        async def checked(request: Request) -> Response:
            unknown = sorted(set(request.query_params) - known)
            if unknown:
                errors = [
                    FieldError(pointer=f"?{name}", detail="no such query parameter")
                    for name in unknown
                ]
                raise UnknownParameter(f"unknown: {', '.join(unknown)}", errors=errors)
            return await handle(request)

        return checked


def _query_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, info in annotation.model_fields.items():
                yield info.alias or name
        else:
            yield field.alias
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)
