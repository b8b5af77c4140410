"""The entitlement ledger's Redis or Valkey adapter and its scripts."""
