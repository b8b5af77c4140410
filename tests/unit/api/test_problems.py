"""Domain errors as problem documents."""

from __future__ import annotations

import json

import pytest

from api.problems import PROBLEMS, problem_of, problem_response
from catalog.errors import Conflict, DomainError, FieldError, InvalidRequest, NotFound, Unavailable


class Specific(Conflict):
    """A conflict the table does not name."""

    code = "specific_to_this_test"


class Unlisted(DomainError):
    """An error the table does not name, nor an ancestor of it."""

    code = "unlisted_in_this_test"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("x"), 404),
        (Conflict("x"), 409),
        (InvalidRequest("x"), 422),
        (Unavailable("x"), 503),
        (Specific("x"), 409),
        (Unlisted("x"), 422),
    ],
)
def test_the_status_follows_the_nearest_listed_code(error: DomainError, status: int) -> None:
    """An error is its own code's status, else its parent's."""
    problem = problem_of(error)

    assert (problem.status, problem.code) == (status, error.code)


def test_a_document_has_every_standard_member_and_the_fields() -> None:
    """Type, title, status, code, detail, instance, and the pointers of what is wrong."""
    error = InvalidRequest("two things", errors=[FieldError(pointer="/a/0", detail="no")])

    response = problem_response(error, request_id="r-1")

    assert response.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": "/problems/invalid_request",
        "title": "The request is not valid",
        "status": 422,
        "code": "invalid_request",
        "detail": "two things",
        "instance": "r-1",
        "errors": [{"pointer": "/a/0", "detail": "no"}],
    }


def test_come_back_later_says_when() -> None:
    """503 carries Retry-After in whole seconds, never less than one."""
    assert (b"retry-after", b"7") in problem_of(Unavailable("x", retry_after_s=7)).headers
    assert (b"retry-after", b"1") in problem_of(Unavailable("x", retry_after_s=0)).headers
    assert problem_of(Conflict("x")).headers == ()


def test_the_table_is_well_formed() -> None:
    """Codes are snake_case, statuses are errors, titles are sentences without a full stop."""
    for code, (status, title) in PROBLEMS.items():
        assert code == code.lower()
        assert " " not in code
        assert 400 <= status < 600
        assert title
        assert not title.endswith(".")
