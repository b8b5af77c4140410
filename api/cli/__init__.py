"""The tallyman command."""
