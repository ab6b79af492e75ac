import os
import stat
import threading

import numpy as np
import pytest

from tensorprog.output import check_writable, write_atomically


def test_text_and_bytes_and_writer(tmp_path):
    path = tmp_path / "out"
    write_atomically(path, "Σ = 1\n")
    assert path.read_text(encoding="utf-8") == "Σ = 1\n"
    write_atomically(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    write_atomically(path, lambda file: np.savez(file, nngp=np.eye(2)))
    with np.load(path) as archive:
        np.testing.assert_array_equal(archive["nngp"], np.eye(2))


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, OSError])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "K.npz"
    path.write_text("old")

    def writer(file):
        file.write(b"half of the new")
        raise failure("no more")

    with pytest.raises(failure, match="no more"):
        write_atomically(path, writer)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["K.npz"]


def test_a_failing_writer_leaves_no_new_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "new", lambda file: 1 / 0)
    assert os.listdir(tmp_path) == []


def test_permissions(tmp_path):
    kept, new, plain = tmp_path / "kept", tmp_path / "new", tmp_path / "plain"
    kept.write_text("old")
    kept.chmod(0o640)
    write_atomically(kept, "new")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    write_atomically(new, "x")
    plain.write_text("x")
    assert new.stat().st_mode == plain.stat().st_mode


def test_a_symbolic_link_stays_one(tmp_path):
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_a_pipe_is_written_in_place(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_atomically(pipe, b"through")
    reader.join(timeout=10)
    assert read == [b"through"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("ask", [check_writable, lambda path: write_atomically(path, "x")])
def test_paths_that_cannot_be_written(tmp_path, ask):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write .*K\.npz: there is no directory .*missing"):
        ask(tmp_path / "missing" / "K.npz")
    with pytest.raises(OSError, match="it is a directory"):
        ask(tmp_path)
    with pytest.raises(OSError, match="is not a directory"):
        ask(tmp_path / "file" / "K.npz")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path):
    protected = tmp_path / "protected"
    protected.write_text("x")
    protected.chmod(0o444)
    with pytest.raises(PermissionError, match="write-protected"):
        check_writable(protected)
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match="no permission"):
            check_writable(tmp_path / "new")
    finally:
        tmp_path.chmod(0o755)


def test_check_writable_leaves_no_trace(tmp_path):
    check_writable(tmp_path / "K.npz")
    assert os.listdir(tmp_path) == []


def test_a_name_that_is_too_long_is_an_oserror(tmp_path):
    with pytest.raises(OSError, match="cannot write"):
        write_atomically(tmp_path / ("a" * 300), "x")
