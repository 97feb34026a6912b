"""`broker doctor`: looks at everything that the path from `sbatch` to a running job needs, the daemon dead or alive.

Each subject is a file: functions that judge recorded facts (pure), and `checks`, which looks and lets them judge.
"""
