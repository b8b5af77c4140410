"""The log: hot frames, sealed segments, the identity index."""
