"""Runs in bframe's own environment: a business in its tables, invoiced as often as asked.

    python bframe_peer.py TABLES.json EVENTS.parquet

Nothing of Tallyman is imported here. ``TABLES.json`` holds rows by table, ``EVENTS.parquet``
rows of ``src.events``. Says ``ready`` once both are in, then for each line of standard input (a
file's name) writes the invoices there, as JSON, and says how many seconds they took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from bframelib import Client

SCOPE = {"org_id": 1, "env_id": 1, "branch_id": 1}
INVOICES = """
    SELECT contract_id, total::TEXT FROM bframe.invoices WHERE started_at = TIMESTAMPTZ '{since}'
"""


def main() -> None:
    """Fill a database in memory, and invoice until there is nothing more to read."""
    told = json.loads(Path(sys.argv[1]).read_text())
    since, until = told["range"]
    client = Client(SCOPE | {"rating_range": [since, until], "rating_as_of_dt": until})
    client.con.execute("SET TimeZone = 'UTC'; SET threads = 2; USE src;")
    for table, rows in told["tables"].items():
        names = list(SCOPE | rows[0])
        marks = ", ".join("?" * len(names))
        client.con.executemany(
            f"INSERT INTO src.{table} ({', '.join(names)}) VALUES ({marks})",
            [list((SCOPE | row).values()) for row in rows],
        )
    client.con.execute(f"INSERT INTO src.events BY NAME FROM read_parquet('{sys.argv[2]}')")
    client.set_config({"prod_system_dt": told["known"]})
    print("ready", flush=True)
    for line in sys.stdin:
        began_s = time.perf_counter()
        invoices = client.execute(INVOICES.format(since=since)).fetchall()
        taken_s = time.perf_counter() - began_s
        Path(line.strip()).write_text(json.dumps(invoices))
        print(taken_s, flush=True)


if __name__ == "__main__":
    main()
