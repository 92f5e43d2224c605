"""Measurements of sparse training: `make bench-train`."""
