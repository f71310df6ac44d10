"""The catalogue, a file for each thing that is attacked."""
