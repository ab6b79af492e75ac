"""What the pages of docs/ show is what happens: their programs, their lines of `tpc`, their Python, what is printed."""

import importlib.util
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.cli import main
from tensorprog.functions import registry
from tensorprog.resources import bundled_programs

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md") if path.stem != "contributing")  # that one stands elsewhere
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[+-]?\d+)?(?!\w)")


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def _prose(page: Path) -> str:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def run_lines(text: str) -> None:
    for line in text.splitlines():
        command = shlex.split(line, comments=True)
        if command:
            assert command[0] == "tpc", line
            assert main(command[1:]) == 0, line


def assert_printed(expected: str, printed: str) -> None:
    """Each stretch of `expected` between lines of … is in `printed`, in this order; numbers may differ a little."""
    place = 0
    for stretch in re.split(r"…", expected):
        stretch = stretch.strip()
        parts = map(re.escape, _NUMBER.split(stretch))
        pattern = re.compile(f"({_NUMBER.pattern})".join(parts))
        found = pattern.search(printed, place)
        assert found, f"{stretch}\n\nis not what was printed:\n\n{printed}"
        shown = [float(x) for x in _NUMBER.findall(stretch)]
        np.testing.assert_allclose([float(x) for x in found.groups()], shown, rtol=0.05, atol=0.01)
        place = found.end()


@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "gallery"], ids=lambda page: page.stem)
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype")
def test_page(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_BY_NAME", dict(registry._BY_NAME))  # what a page registers is forgotten
    monkeypatch.setattr(registry, "_BY_HEAD", dict(registry._BY_HEAD))
    names: dict = {}
    printed = ""
    for kind, text in blocks(page):
        if kind == "text":
            assert_printed(text, printed)
            continue
        if kind == "netsor":
            Path(f"{tp.parse(text).name}.netsor").write_text(text, encoding="utf-8")
        elif kind == "sh":
            run_lines(text)
        else:
            assert kind == "python", f"a block of {kind} is not run: leave its name out, or teach this test"
            exec(compile(text, page.name, "exec"), names)
        printed = capsys.readouterr().out


def test_what_is_printed_is_compared():
    assert_printed("slope: 0.50\n…\nend", "slope: 0.51\nsomething\nend\n")
    with pytest.raises(AssertionError):
        assert_printed("slope: 0.50", "slope: 0.60")
    with pytest.raises(AssertionError):
        assert_printed("end … slope", "slope … end")


def _script(path: Path):
    name = f"script_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _gallery():
    return _script(DOCS / "gallery.py")


def test_the_gallery_is_that_of_the_programs():
    gallery = _gallery()
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert text == gallery.page(), "python docs/gallery.py writes it"
    pictures = set(re.findall(r"\((gallery/\w+\.png)\)", text))
    assert pictures == {f"gallery/{path.name}" for path in (DOCS / "gallery").iterdir()}
    assert set(gallery.EXAMPLES) <= set(bundled_programs())


def test_a_picture_of_the_gallery(tmp_path):
    _gallery().draw("gcn", tmp_path / "gcn.png")
    assert (tmp_path / "gcn.png").read_bytes().startswith(b"\x89PNG")


def test_links_and_pictures_are_there():
    for page in PAGES:
        text = _prose(page)
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if not target.startswith("http"):
                assert (DOCS / target).is_file(), f"{page.name}: {target}"
    sizes = [path.stat().st_size for path in DOCS.rglob("*.png")]
    assert max(sizes) < 200_000
    assert sum(sizes) < 1_500_000


def test_commands_of_the_figures_are_those_of_the_script():
    script = ROOT / "benchmarks" / "figures.py"
    for page in (ROOT / "README.md", DOCS / "index.md"):
        text = page.read_text(encoding="utf-8")
        for figure in ("gp", "ntk"):
            assert f"python benchmarks/figures.py {figure} -o " in text
    assert re.findall(r'choices=\("(\w+)", "(\w+)"\)', script.read_text(encoding="utf-8")) == [("gp", "ntk")]


@pytest.mark.slow
@pytest.mark.parametrize("figure", ["gp", "ntk"])
def test_a_figure(figure, tmp_path, monkeypatch, capsys):
    figures = _script(ROOT / "benchmarks" / "figures.py")
    # two of the four each: RNN and transformer, RNN and batchnorm
    monkeypatch.setattr(figures, "NETWORKS", figures.NETWORKS[:: {"gp": 2, "ntk": 3}[figure]])
    path = tmp_path / "figure.png"
    arguments = ["figures.py", figure, "-o", str(path), "--widths", "16", "64", "--seeds", "2"]
    monkeypatch.setattr(sys, "argv", arguments)
    figures.main()
    assert path.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().err.count("slope") == 2


def test_every_page_is_in_the_navigation():
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").splitlines()
    assert {line.removeprefix("  - ") for line in lines if line.endswith(".md")} == {
        page.name for page in DOCS.glob("*.md")
    }


def test_headings_go_down_one_by_one():
    for page in PAGES:
        levels = [len(marks) for marks in re.findall(r"^(#+) ", _prose(page), re.MULTILINE)]
        assert levels[0] == 1 and levels.count(1) == 1, page.name
        assert all(below <= above + 1 for above, below in pairwise(levels)), page.name


@pytest.mark.slow
def test_it_builds_without_warnings(tmp_path):
    for module in ("mkdocs", "mkdocstrings_handlers"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install -e '.[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "site" / "gallery" / "index.html").is_file()
