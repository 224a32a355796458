"""Clients and generators of other people, unchanged, against Kurs and its simulator."""
