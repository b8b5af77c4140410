"""Closed and rated lines to invoices: a consumer of rating's output."""
