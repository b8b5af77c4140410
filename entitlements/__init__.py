"""May this customer do this now? Grants, balances and decisions."""
