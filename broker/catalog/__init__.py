"""What exists. Pure; its tables are TOML files beside the code."""
