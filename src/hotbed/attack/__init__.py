"""Hostile programs as data, and what runs them: the proof of what docs/security.md promises."""
