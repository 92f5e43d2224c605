"""Fuzzing: random networks against the judge, damaged files against every parser."""
