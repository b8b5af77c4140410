"""A route that refuses what a lenient one would overlook: in the query and in a JSON body."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any, get_origin

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from api.parameters import UnknownParameter
from api.routes.bodies import read_json
from catalog.errors import FieldError, InvalidRequest


class StrictRoute(APIRoute):
    """The route class of every router: ``APIRouter(route_class=StrictRoute)``."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler in the checks."""
        handle = super().get_route_handler()
        known = dict(_query_names(self.dependant))

        async def checked(request: Request) -> Response:
            _check_query(request.query_params, known)
            if self.body_field is not None and await request.body():
                await read_json(request)  # the framework keeps the last of two equal keys
            return await handle(request)

        return checked


def _check_query(given: QueryParams, known: Mapping[str, bool]) -> None:
    unknown = sorted(set(given) - set(known))
    if unknown:
        errors = [
            FieldError(pointer=f"?{name}", detail="no such query parameter") for name in unknown
        ]
        raise UnknownParameter(f"unknown: {', '.join(unknown)}", errors=errors)
    repeated = [name for name in given if not known[name] and len(given.getlist(name)) > 1]
    if repeated:
        errors = [FieldError(pointer=f"?{name}", detail="is there twice") for name in repeated]
        raise InvalidRequest(f"given twice: {', '.join(repeated)}", errors=errors)


def _query_names(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Every query parameter with whether it may be repeated."""
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, info in annotation.model_fields.items():
                yield info.alias or name, get_origin(info.annotation) is list
        else:
            yield field.alias, get_origin(annotation) is list
    for dependency in dependant.dependencies:
        yield from _query_names(dependency)
