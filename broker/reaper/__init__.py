"""`broker reap`: ends, with keys of its own, the machines that nobody can need any more. It does without the daemon."""
