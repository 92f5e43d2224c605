"""The trainer, what it loops over and what it writes."""
