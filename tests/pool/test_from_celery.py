"""docs/from-celery.md, followed to the letter: Celery's own producer, the page's files and commands, a whole pool."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.doc_blocks import ROOT, blocks

PAGE = ROOT / "docs" / "from-celery.md"


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.timeout(240)
def test_the_page_is_followed_in_ten_minutes(amqp_url: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "rabbitray"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rabbitray "$@"\n')
    program.chmod(0o755)
    python = tmp_path / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{tmp_path}",
        "RABBITMQ_URL": amqp_url,
    }
    shown = ""
    for block in blocks(PAGE):
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.text)
        elif block.language == "bash":
            command = ["bash", "-euo", "pipefail", "-c", block.text]
            ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
            assert ran.returncode == 0, f"{block.where}\n{ran.stdout}\n{ran.stderr}"
            shown += ran.stdout
    assert "100 done" in shown
    assert "shop.bill" in shown
