"""The vocabulary: what a lease, an offer, a request is. Standard library only, no I/O."""
