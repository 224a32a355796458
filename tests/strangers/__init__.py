"""Clients and generators of other projects, unchanged, with Kurs and its simulator."""
