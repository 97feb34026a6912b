"""Replays a trace of jobs on a year of carbon and prices: what would it have cost, emitted and waited? No daemon, no network."""
