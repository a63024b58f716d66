"""`python -m cluster.settings > docs/configuration.md`."""

import sys

from cluster.settings.showing import configuration_markdown

if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
