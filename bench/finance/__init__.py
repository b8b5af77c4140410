"""Finance: closing a month, issuing its invoices, and handing over a million lines."""
