"""Effects: starting processes, talking to them, ending them. Decides nothing."""
