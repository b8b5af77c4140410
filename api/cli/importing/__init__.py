"""`tallyman import`: files of usage become events by a declarative column mapping."""
