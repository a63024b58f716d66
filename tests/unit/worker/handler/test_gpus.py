"""A module that is only looked at finds no GPU, and the process's own variables are as before."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from rabbitray.actors.worker.handler.gpus import HIDES_GPUS, gpus_hidden
from rabbitray.actors.worker.handler.loading import find
from rabbitray.cluster.driver.driver import check
from rabbitray.cluster.settings import load

MODULE = """
import os
SEEN = os.environ["CUDA_VISIBLE_DEVICES"]
class Model:
    def setup(self): raise AssertionError("the driver makes no model")
    def __call__(self, job): return None
"""


def test_the_drivers_check_hides_gpus_from_the_handler_and_sets_no_class_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gpu_handler_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    loaded = load({"results": tmp_path / "r.duckdb"}, {"RABBITMQ_URL": "amqp://127.0.0.1:1/"}, None)
    check(loaded, "gpu_handler_of_a_test:Model")
    assert sys.modules["gpu_handler_of_a_test"].SEEN == ""
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert find("gpu_handler_of_a_test:Model")


def test_variables_that_were_not_set_are_not_set_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in HIDES_GPUS:
        monkeypatch.delenv(name, raising=False)
    with gpus_hidden():
        assert all(os.environ[name] == "" for name in HIDES_GPUS)
    assert not HIDES_GPUS.keys() & os.environ.keys()
