"""The entitlement ledger, measured over HTTP and at its port."""
