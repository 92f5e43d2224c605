"""Networks of tens of millions of neurons: constant fan-in, changed in place."""
