"""Arrays in, arrays out: the compiled numerics."""
