"""The tasks: each file has one or a few that belong together. The folder is searched at the start."""
