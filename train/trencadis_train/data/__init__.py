"""Data sets, and what is done to examples while training."""
