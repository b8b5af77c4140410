"""Runs in bframe's own environment: businesses on standard input, its line items on the output.

Nothing of Tallyman is imported here, and nothing of bframe anywhere else. One JSON object comes
in: ``tables`` (rows by table), ``range`` (two instants) and ``known`` (instants of system time).
One goes out: by instant of system time, its ``line_items`` and ``invoices``.
"""

from __future__ import annotations

import json
import sys

from bframelib import Client

SCOPE = {"org_id": 1, "env_id": 1, "branch_id": 1}
LINE_ITEMS = """
    SELECT contract_id, invoice_delivery, started_at::TEXT, ended_at::TEXT, product_uid,
           quantity::TEXT, amount::TEXT
    FROM bframe.line_items
"""
INVOICES = """
    SELECT contract_id, invoice_delivery, started_at::TEXT, ended_at::TEXT, total::TEXT
    FROM bframe.invoices
"""


def main() -> None:
    """Fill a database in memory, ask it, and answer."""
    told = json.load(sys.stdin)
    since, until = told["range"]
    client = Client(SCOPE | {"rating_range": [since, until], "rating_as_of_dt": until})
    client.con.execute("SET TimeZone = 'UTC'; USE src;")
    for table, rows in told["tables"].items():
        for row in rows:
            held = SCOPE | row
            names, marks = ", ".join(held), ", ".join("?" * len(held))
            client.con.execute(
                f"INSERT INTO src.{table} ({names}) VALUES ({marks})", list(held.values())
            )
    answers = {}
    for known in told["known"]:
        client.set_config({"prod_system_dt": known})
        answers[known] = {
            "line_items": client.execute(LINE_ITEMS).fetchall(),
            "invoices": client.execute(INVOICES).fetchall(),
        }
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
