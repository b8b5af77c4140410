"""The loops that keep everything derived from the log up to date."""
