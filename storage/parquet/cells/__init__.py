"""Cells: facts added up by subject, dimensions and day, as files that never change."""
