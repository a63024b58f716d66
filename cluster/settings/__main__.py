"""`python -m rabbitray.cluster.settings > docs/configuration.md`."""

import sys

from rabbitray.cluster.settings.showing import configuration_markdown

if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
