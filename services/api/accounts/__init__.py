"""People: registration, sign-in, tokens, tasks and the audit log."""
