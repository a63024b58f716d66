"""The commands of `rabbitray`, one module each; `cluster/cli/app.py` lists them."""
