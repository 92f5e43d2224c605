"""Truly sparse training: networks whose weights never exist densely."""
