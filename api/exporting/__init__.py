"""Handing over: destinations declared, run by a schedule or by hand, delivered at least once."""
