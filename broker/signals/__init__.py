"""Signals of grids: carbon intensity and prices of power, one file a source. README.md is the contract."""
