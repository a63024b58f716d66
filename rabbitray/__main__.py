"""`python -m rabbitray`: the same program as `rabbitray`."""

from rabbitray.cluster.cli.app import main

if __name__ == "__main__":
    main()
