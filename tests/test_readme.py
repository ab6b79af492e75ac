"""What the README shows is what happens."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from tensorprog.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
PROGRAM = next(text for kind, text in BLOCKS if not kind and text.startswith("program my_rnn("))
RECURSION = next(text for kind, text in BLOCKS if not kind and "K(y, y')" in text)
PYTHON, SAMPLED = [text for kind, text in BLOCKS if kind == "python"]
SHELL = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.fixture
def directory(tmp_path, monkeypatch):
    (tmp_path / "my_rnn.netsor").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_ci_runs_the_test_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert "pytest" in command
    assert command.replace(".venv-ci", ".venv") in README.splitlines()


def test_the_first_command_ends_with_the_picture(directory):
    first, *_ = SHELL
    commands = [part.split()[0] for part in first.split(" && ")]
    assert commands == ["python3", ".venv/bin/pip", ".venv/bin/tpc", ".venv/bin/tpc"]
    for part in first.split(" && ")[2:]:
        assert main(shlex.split(part)[1:]) == 0
    assert np.load("K.npz")["ntk"].shape == (60, 60)
    assert Path("K.png").read_bytes().startswith(b"\x89PNG")


def test_the_other_commands(directory):
    commands = [shlex.split(line, comments=True) for line in SHELL if line.startswith("tpc ")]
    assert {command[1] for command in commands} == {"check", "derive", "run", "plot", "compile"}
    for command in commands:
        assert main(command[1:]) == 0, command


def test_the_recursion(directory, capsys):
    assert main(["derive", "my_rnn.netsor"]) == 0
    assert capsys.readouterr().out.endswith("\n\n" + RECURSION)


@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")  # NumPy's float64 in a JAX of float32
def test_the_python_lines(directory):
    names: dict = {}
    exec(compile(PYTHON, "README.md", "exec"), names)
    assert names["nngp"].shape == names["ntk"].shape == names["part"].shape == (5, 4)
    assert (np.asarray(names["part"]) < np.asarray(names["ntk"])).all()
    assert np.isfinite(names["slope"])


def test_every_bundled_program_is_named():
    named = re.findall(r"`(\w+)`", "\n".join(line for line in README.splitlines() if line.startswith("| `")))
    assert {path.stem for path in (ROOT / "programs").glob("*.netsor")} <= set(named)


def test_pictures_are_there_and_small():
    pictures = [ROOT / path for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", README)]
    assert pictures
    assert all(0 < picture.stat().st_size < 200_000 for picture in pictures)


def test_the_lines_on_sampling(capsys):
    names: dict = {}
    exec(compile(SAMPLED, "README.md", "exec"), names)
    assert capsys.readouterr().out == "(7, 9)\n"
    assert names["stderr"][0][1].max() < 2e-3
