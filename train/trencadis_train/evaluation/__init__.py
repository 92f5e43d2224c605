"""Trained networks compared, and under noise."""
