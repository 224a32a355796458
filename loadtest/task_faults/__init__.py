"""Tasks while their workers are killed and their broker restarts."""
