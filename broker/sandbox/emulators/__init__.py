"""Emulated providers: each speaks its vendor's recorded contract, misbehaves as the real one does, and keeps its own bill."""
