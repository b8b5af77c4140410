"""Bugs that somebody could write, each as a patch, and what catches it."""
