"""The command line. Needs the `cli` extra: typer and rich."""
