"""Decisions: facts come in as arguments, actions go out as values. No clock, lock or process."""
