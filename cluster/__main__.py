"""`python -m cluster`: the same program as `rabbitray`."""

from cluster.cli import main

if __name__ == "__main__":
    main()
