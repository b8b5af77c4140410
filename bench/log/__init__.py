"""The log by itself: recovery, and the bytes it takes."""
