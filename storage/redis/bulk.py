"""Many commands in one write, and their replies: a tenth of what a pipeline of redis-py costs."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any

import hiredis
import redis
from redis.exceptions import ResponseError

Argument = str | int | bytes


def spelled(*command: Argument) -> bytes:
    """A command as it goes over the wire."""
    return bytes(hiredis.pack_command(command))  # type: ignore[arg-type]


def answers(client: redis.Redis, commands: Sequence[bytes]) -> list[Any]:
    """Send commands at once; their replies in order, a server's refusal among them as an error.

    Raises:
        redis.ConnectionError, redis.TimeoutError: what became of them is unknown.
    """
    [replies] = conversation(client, [commands])
    return replies


def conversation(
    client: redis.Redis, batches: Iterable[Sequence[bytes]]
) -> Generator[list[Any], None, None]:
    """The replies of each batch, in order: the next one is on its way before they are awaited.

    So one batch is made while the server is at the other. For commands whose replies are small:
    nobody reads them while a batch is written. To be closed where it is not read to its end.

    Raises:
        redis.ConnectionError, redis.TimeoutError: as :func:`answers`.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    due = 0
    try:
        for commands in batches:
            connection.send_packed_command([b"".join(commands)], check_health=False)
            if due:
                yield [_reply(connection) for _ in range(due)]
            due = len(commands)
        yield [_reply(connection) for _ in range(due)]
    except BaseException:
        connection.disconnect()  # replies that nobody reads would be taken for others
        raise
    finally:
        pool.release(connection)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except ResponseError as refusal:
        return refusal
