"""Which files of the user's folder go along."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from rabbitray.actors.errors import ConfigurationError
from rabbitray.cluster.settings.job import JobServerAccess
from rabbitray.cluster.submit.folder import archive, look_through, require_fitting, require_handler, require_taken, told
from rabbitray.cluster.submit.submit import read_folder

JUNK = (
    ".git/HEAD", ".venv/bin/python", "venv/x", "a/__pycache__/x.pyc", ".mypy_cache/x", "node_modules/x",
    ".env", ".env.prod", "orders.duckdb", "a/orders.duckdb.wal", "big.parquet", "x.egg-info/PKG", "tls.pem",
    "rabbitray.toml",
)  # fmt: skip


def filled(root: Path, *names: str, text: str = "x") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def names_in(root: Path, *excludes: str, gitignore: bool = True) -> list[str]:
    return [path.as_posix() for path, _ in look_through(root, excludes, gitignore=gitignore).files]


def test_code_and_data_go_along_and_junk_and_secrets_do_not(tmp_path: Path) -> None:
    filled(tmp_path, "myjobs.py", "a/b.py", "a/words.txt", "a/rabbitray.toml", *JUNK)
    assert names_in(tmp_path) == ["a/b.py", "a/rabbitray.toml", "a/words.txt", "myjobs.py"]


def test_ignore_files_of_every_folder_count_as_ray_reads_them(tmp_path: Path) -> None:
    filled(tmp_path, "x.py", "x.csv", "a/x.csv", "a/keep.csv", "a/x.log", "b/x.bin")
    (tmp_path / ".gitignore").write_text("/x.csv\n*.log\n")
    (tmp_path / "a" / ".gitignore").write_text("x.csv\n")
    (tmp_path / ".rayignore").write_text("b\n")
    assert names_in(tmp_path) == [".gitignore", ".rayignore", "a/.gitignore", "a/keep.csv", "x.py"]
    assert {"x.csv", "a/x.csv", "a/x.log"} <= {*names_in(tmp_path, gitignore=False)}
    assert "b/x.bin" not in names_in(tmp_path, gitignore=False)


def test_excludes_leave_out_and_take_in_again(tmp_path: Path) -> None:
    filled(tmp_path, "x.py", "data/x.csv", "lookup.parquet")
    assert names_in(tmp_path, "data", "!lookup.parquet") == ["lookup.parquet", "x.py"]


def test_the_file_of_secrets_stays_wherever_it_is_and_whatever_it_is_called(tmp_path: Path) -> None:
    filled(tmp_path, "x.py", "conf/mine [1]*", "conf/other", "alone/url")
    (tmp_path / "link").symlink_to("conf/mine [1]*")
    access = JobServerAccess()
    secret = (tmp_path / "conf" / "mine [1]*", tmp_path / "alone" / "url", None)
    found = read_folder(tmp_path, ("!conf/mine*",), access, secret)
    assert [path.as_posix() for path, _ in found.files] == ["conf/other", "x.py"]
    assert found.left_out == ("alone", "link")
    assert len(read_folder(tmp_path, (), access, (tmp_path.parent / "elsewhere",)).files) == 5


def test_size_and_what_is_left_out_are_told(tmp_path: Path) -> None:
    filled(tmp_path, "x.py", ".git/HEAD", "orders.duckdb", text="x" * 2048)
    found = look_through(tmp_path, [], gitignore=True)
    assert told(found) == f"1 files, 2.0 KiB of {tmp_path} (left out: .git, orders.duckdb)"


def test_too_much_is_one_line_that_names_what_is_largest(tmp_path: Path) -> None:
    filled(tmp_path, "x.py", "model/weights.bin", text="x" * 600)
    filled(tmp_path, "data/a", "data/b", text="x" * 500)
    found = look_through(tmp_path, [], gitignore=True)
    require_fitting(found, 2201)
    with pytest.raises(ConfigurationError) as refused:
        require_fitting(found, 2200)
    line = str(refused.value)
    assert "4 files are 2.1 KiB, less than 2.1 KiB is packed; leave out" in line
    assert "(largest: data 1000 B, model 600 B, x.py 600 B)" in line
    assert "\n" not in line


def test_an_archive_that_the_job_server_would_not_take_is_one_line(tmp_path: Path) -> None:
    found = look_through(filled(tmp_path, "x.py", text="x" * 600), [], gitignore=True)
    require_taken(found, 1024, 1024)
    with pytest.raises(ConfigurationError) as refused:
        require_taken(found, 1025, 1024)
    line = str(refused.value)
    assert "1 files are 600 B, 1.0 KiB once packed, and Ray's job server takes 1.0 KiB; leave out" in line
    assert line.endswith("(largest: x.py 600 B)")


@pytest.mark.parametrize("pattern", [".*", "*\n!*.py\n!/a"])
def test_patterns_that_mean_the_folder_itself_leave_only_what_is_in_it_out(tmp_path: Path, pattern: str) -> None:
    filled(tmp_path, "x.py", "a/y.py", ".hidden", ".config/x.py")
    (tmp_path / ".gitignore").write_text(pattern)
    found = names_in(tmp_path)
    assert {"x.py", "a/y.py"} <= {*found}
    assert ".hidden" not in found
    assert ".config/x.py" not in found


def test_an_option_does_not_take_in_what_an_ignore_file_leaves_out(tmp_path: Path) -> None:
    filled(tmp_path, "x.py", "y.py", ".env")
    (tmp_path / ".rayignore").write_text("y.py\n.rayignore\n")
    assert names_in(tmp_path, "!y.py", "!.env") == [".env", "x.py"]


def test_a_handler_that_would_not_go_along_is_refused_and_one_elsewhere_is_a_note(tmp_path: Path) -> None:
    filled(tmp_path, "jobs.py", "package/__init__.py", "package/more.py", "hidden.py")
    (tmp_path / ".gitignore").write_text("hidden.py\n")
    found = look_through(tmp_path, [], gitignore=True)
    for module in ("jobs", "package", "package.more"):
        assert require_handler(found, f"{module}:handle") is None
    with pytest.raises(ConfigurationError, match="hidden would not be uploaded"):
        require_handler(found, "hidden:handle")
    assert "must be installed on the cluster" in str(require_handler(found, "elsewhere.jobs:handle"))


def test_the_archive_holds_the_files_and_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    filled(tmp_path, "x.py", "a/b.py")
    (tmp_path / "x.py").chmod(0o755)
    found = look_through(tmp_path, [], gitignore=True)
    name, content = archive(found)
    with ZipFile(BytesIO(content)) as packed:
        assert packed.namelist() == ["a/b.py", "x.py"]
        assert packed.read("x.py") == b"x"
    assert archive(found) == (name, content)
    (tmp_path / "x.py").write_text("y")
    assert archive(found)[0] != name


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="is no folder"):
        look_through(tmp_path / "missing", [], gitignore=True)
    with pytest.raises(ConfigurationError, match="is no folder"):
        look_through(filled(tmp_path, "file") / "file", [], gitignore=True)
