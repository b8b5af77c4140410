"""One file a change, numbered; applied in order, never edited once released."""
