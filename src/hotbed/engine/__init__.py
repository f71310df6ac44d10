"""The engine: requests in, results out; the plan decides, this floor carries it out."""
