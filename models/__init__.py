"""Networks only: no data, no training loop, no input or output beyond loading and saving."""
