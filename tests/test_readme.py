from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_ci_runs_the_test_command_of_the_readme():
    command = (ROOT / ".ci" / "run").read_text().splitlines()[-1]
    assert "pytest" in command
    assert command.replace(".venv-ci", ".venv") in (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
