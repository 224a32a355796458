"""`kurs persons`: the operator's way to people, beside the API."""
