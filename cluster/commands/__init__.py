"""The commands of `rabbitray`, one module each; `cluster/cli.py` lists them."""
