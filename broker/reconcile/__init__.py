"""Activities of the daemon: each compares what should be with what is and takes one step that is safe to repeat."""
