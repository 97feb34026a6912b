"""A real Slurm with an emulated cloud on this machine. Only the CLI imports it."""
