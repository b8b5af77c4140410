"""May this customer do this now? Grants, burn-down, decisions; the ledger is behind a port."""
