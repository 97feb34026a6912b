"""The only SQL. One store a noun; `schema.py` and the migrations agree, and a test holds them to it."""
