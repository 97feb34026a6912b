"""The two small helpers with rights that the daemon has not. Standard library only: they run without the venv."""
