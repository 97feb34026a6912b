"""From a bare rented machine to a Slurm node: which steps, and how they are run over SSH."""
