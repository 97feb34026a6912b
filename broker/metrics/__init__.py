"""Prometheus metrics. `catalogue.py` names every one; the other files say where its value comes from."""
