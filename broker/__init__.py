"""Cloud GPUs as elastic Slurm partitions.

Start at `docs/explanation/architecture.md`; the words are in `broker/core/`, the wiring is in `broker/app.py`.
"""

__version__ = "0.1.0"
