"""What jobs used, by Slurm's own word: reads exports of `sacct` and adds them up. Pure but for the files it reads."""
