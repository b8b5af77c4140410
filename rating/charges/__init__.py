"""The charge models, one file each."""
