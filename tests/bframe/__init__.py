"""bframe (``bframelib``, AGPL) beside Tallyman on random businesses; see docs/bframe.md."""
