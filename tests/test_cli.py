"""`tpc`: what the verbs print and write, and exit statuses and diagnostics for what is wrong."""

import io
import json
import shlex
import subprocess
import sys
import zipfile
from importlib import import_module, util
from pathlib import Path

import jax
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.cli import main
from tensorprog.cli.progress import Progress

VERBS = ("list", "check", "derive", "compile", "run", "verify", "plot")
BROKEN = """program broken(T)
input x[t = 1..T] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
output y[t = 1..T] := v.T @ rellu(U @ x[t]) / sqrt(n)
"""


@pytest.fixture(autouse=True)
def _double_precision_stays():
    yield
    jax.config.update("jax_enable_x64", True)


@pytest.fixture
def tpc(capsys, tmp_path, monkeypatch):
    """Runs a command line in an empty directory: status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(line: str, status: int = 0):
        capsys.readouterr()
        found = main(shlex.split(line))
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        assert "internal error" not in err, err
        assert found == status, (found, err)
        assert bool(err.strip()) or status == 0
        return out, err

    return run


def save(name: str, *shape: int) -> np.ndarray:
    array = np.random.default_rng(len(name)).normal(size=shape)
    np.save(name, array)
    return array


# ---------------------------------------------------------------- verbs


def test_list(tpc):
    out, _ = tpc("list")
    lines = out.splitlines()
    assert len(lines) >= 12
    assert lines[0].startswith("attention  ")
    assert any(line.startswith("rnn ") and "Simple RNN" in line for line in lines)


def test_check(tpc):
    out, _ = tpc("check rnn --set phi=tanh --set var_w=1/3")
    assert "language        Netsor\n" in out
    assert "var_w = 1/3" in out
    assert "phi(x) = tanh(x): growth bounded; smooth" in out
    report = json.loads(tpc("check transformer --json")[0])
    assert report["language"] == "Netsor+"
    assert report["bp_like"] is True


def test_what_has_no_limit_is_still_reported(tpc):
    assert "NTK             does not exist: " in tpc("check mlp --set phi=step")[0]


@pytest.mark.parametrize("form", ["text", "latex", "json"])
@pytest.mark.parametrize("get", ["nngp", "ntk"])
def test_derive(tpc, get, form):
    out, _ = tpc(f"derive mlp --get {get} --format {form}")
    assert out.endswith("\n") and out.strip()
    if form == "json":
        assert json.loads(out)
    tpc(f"derive mlp --get {get} --format {form} -o D.txt")
    assert Path("D.txt").read_text() == out


def test_compile_core_is_a_program(tpc):
    out, _ = tpc("compile rnn --emit core --set phi=tanh")
    assert tp.parse(out).core() == out
    assert "phi = tanh" in out


def test_compile_graph(tpc):
    out, _ = tpc("compile rnn --emit graph")
    assert out.startswith('digraph "rnn" {') and out.endswith("}\n")
    assert '"s" -> "W_s" [label = "[t - 1]"];' in out
    assert '"W_s" [shape = ellipse, label = "W_s[t = 1..T] : G(n)\\nMatMul"];' in out


def test_compile_recursion(tpc):
    out, _ = tpc("compile rnn --emit recursion")
    assert "covariance[cross](h, h') over t = 1..T, t' = 1..T'\n" in out
    assert "    [t, t'] := law(W: var_w, tangent 1) * moment[cross](s, s')[t-1, t'-1] + " in out
    assert "moment[self](s) over t = 0..T (diagonal)\n    [0] := 0\n" in out
    assert "\nkernel: output[cross](y)\n\nlowering\n" in out
    assert "limit: scalar[self](m)" in tpc("compile semicircle --emit recursion")[0]


def test_compile_kernel_stands_alone(tpc):
    x = save("A.npy", 3, 4)
    tpc("compile mlp --emit kernel -o alone.py")
    code = "import sys, numpy as np, alone; k = alone.kernel(np.load('A.npy')); np.save('K.npy', np.asarray(k[0])); "
    code += "assert not any(m.startswith('tensorprog') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"JAX_ENABLE_X64": "1", "PYTHONPATH": "."})
    np.testing.assert_allclose(np.load("K.npy"), tp.load("mlp").kernel()(x, get="nngp"), rtol=1e-10)


def test_compile_jaxpr(tpc):
    save("A.npy", 2, 3, 4)
    by_shape, _ = tpc("compile rnn --emit jaxpr --shape x=3,4 --get nngp")
    assert "lambda" in by_shape
    assert "f64[2,3,4]" in by_shape
    assert "lambda" in tpc("compile rnn --emit jaxpr --x1 A.npy --get nngp")[0]


@pytest.mark.skipif(util.find_spec("flatbuffers") is None, reason="jax.export needs flatbuffers to serialize")
def test_compile_stablehlo(tpc):
    import jax.export

    tpc("compile mlp --emit stablehlo --shape 4 -o mlp.hlo")
    x = save("A.npy", 3, 4)
    call = jax.export.deserialize(bytearray(Path("mlp.hlo").read_bytes())).call
    np.testing.assert_allclose(call({"x": x}, {"x": x[:2]})[0], tp.load("mlp").kernel()(x, x[:2], "nngp"), rtol=1e-10)


def test_run_writes_kernels(tpc):
    x1, x2 = save("A.npy", 3, 5, 4), save("BB.npy", 2, 3, 4)
    out, _ = tpc("run rnn --set var_w=2 --x1 A.npy --x2 BB.npy --get nngp,ntk -o K.npz")
    assert out == ""
    expected = tp.load("rnn", var_w=2).kernel()(x1, x2)
    with np.load("K.npz") as file:
        assert sorted(file.files) == ["nngp", "ntk"]
        np.testing.assert_allclose(file["ntk"], expected.ntk, rtol=1e-12)
        assert file["nngp"].shape == (3, 2, 5, 3)
        assert file["nngp"].dtype == np.float64


def test_run_one_kernel_as_npy(tpc):
    save("A.npy", 3, 4)
    tpc("run mlp --x1 x=A.npy --get ntk --dtype float32 --tile 2 -o K.npy")
    assert np.load("K.npy").dtype == np.float32


def test_run_without_a_file_prints(tpc):
    save("A.npy", 3, 4)
    out, _ = tpc("run mlp --x1 A.npy")
    assert out.count("shape (3, 3), float64") == 2
    assert out.count("[[") == 2
    save("B.npy", 40, 4)
    assert "[[" not in tpc("run mlp --x1 B.npy")[0]


def test_run_with_several_inputs(tpc):
    save("A.npy", 2, 5, 4)
    save("G.npy", 2, 5, 5)
    tpc("run gcn --x1 x=A.npy --x1 adj=G.npy --get nngp -o K.npz")
    assert np.load("K.npz")["nngp"].shape == (2, 2)


def test_run_on_digits(tpc):
    tpc("run rnn --x1 'digits[:3]' --get nngp -o K.npz")
    assert np.load("K.npz")["nngp"].shape == (3, 3, 8, 8)


def test_run_prints_limits(tpc):
    Path("m.netsor").write_text(
        "program m\ninput x : R(d)\nweight U : A(n, d) ~ N(0, 1) / sqrt(d)\nh := U @ x\noutput c := <h, h> / n\n"
    )
    save("A.npy", 3, 4)
    out, _ = tpc("run m.netsor --x1 A.npy -o M.npz")
    assert out.startswith("c = [")
    assert np.load("M.npz")["c"].shape == (3,)
    assert "--x1 is needed" in tpc("run m.netsor", 2)[1]
    assert "--x2 is for kernels" in tpc("run m.netsor --x1 A.npy --x2 A.npy", 2)[1]


def test_plot(tpc):
    save("A.npy", 3, 4)
    tpc("run mlp --x1 A.npy -o K.npz")
    tpc("plot K.npz -o P.png")
    assert Path("P.png").read_bytes().startswith(b"\x89PNG")
    tpc("run mlp --x1 A.npy --get ntk -o K.npy")
    tpc("plot K.npy -o P.svg --title 'An NTK'")
    assert "<svg" in Path("P.svg").read_text()


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_that_runs(tpc, verb):
    out, _ = tpc(f"{verb} --help")
    assert f"tpc {verb}" in out
    examples = out.split("example", 1)[1].splitlines()[1:]
    commands = [line.strip() for line in examples if line.strip().startswith("tpc ")]
    assert commands
    for command in commands:
        for part in command.split(" && "):
            if "stablehlo" in part and util.find_spec("flatbuffers") is None:
                continue
            tpc(part.removeprefix("tpc "))


def test_help_and_version(tpc):
    out, _ = tpc("--help")
    assert all(f"    {verb} " in out for verb in VERBS)
    assert tpc("--version")[0] == f"tensorprog {tp.__version__}\n"


# ---------------------------------------------------------------- the program is wrong: 1


def test_a_wrong_program_is_shown_with_its_place(tpc):
    Path("broken.netsor").write_text(BROKEN)
    for verb in ("check", "derive", "compile --emit core", "run --x1 A.npy"):
        name, *options = verb.split()
        out, err = tpc(f"{name} broken.netsor {' '.join(options)}", 1)
        assert out == ""
        lines = err.splitlines()
        assert lines[0] == "broken.netsor:5:29: error: unknown function 'rellu'"
        assert lines[1].endswith(BROKEN.splitlines()[4])
        assert lines[2].index("^") == lines[1].index("rellu")
        assert lines[3] == "hint: did you mean 'relu'?"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("check rnnn", "rnnn: error: there is no such file or bundled program\nhint: did you mean 'rnn'?"),
        ("check .", ".: error: this is a directory"),
        ("check rnn --set phi=erff", "rnn.netsor:2:16: error: unknown function 'erff'"),
        ("check rnn --set vr_w=1", "hint: did you mean 'var_w'?"),
        ("check rnn --set var_w=much", "is a number, not 'much'"),
        ("check mlp --set depth=2.5", "'depth' is an integer"),
        ("check mlp --set depth=1000000000", "this loop runs 999999999 times"),
        ("derive mlp --get ntk --set phi=step", "jumps"),
        ("compile semicircle --emit jaxpr", "the outputs are C's"),
    ],
)
def test_wrong_programs(tpc, line, message):
    assert message in tpc(line, 1)[1]


def test_a_default_kernel_that_does_not_exist(tpc):
    save("A.npy", 3, 4)
    assert "hint: --get nngp computes the other kernel" in tpc("run mlp --set phi=step --x1 A.npy", 1)[1]
    tpc("run mlp --set phi=step --x1 A.npy --get nngp")


# ---------------------------------------------------------------- the data are wrong: 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run rnn --x1 none.npy", "cannot read none.npy: no such file or directory"),
        ("run rnn --x1 text.npy", "text.npy is not a .npy or .npz file"),
        ("run rnn --x1 flat.npy", "x1: 'x' has the shape (N1, T, d), and an array of shape (5, 4) was given"),
        ("run rnn --x1 good.npy --x2 wide.npy", "x1 and x2 differ in d: 4 and 3 features"),
        ("run rnn --x1 nan.npy", "nan.npy holds infinities or NaN"),
        ("run rnn --x1 good.npy --set T=9", "axis t of 'x' has length 5, but the program has T = 9"),
        ("run rnn --x1 'digits[5:5]'", "the selection of digits is empty"),
        ("run gcn --x1 x=good.npy", "x1: the data for 'adj' are missing"),
        ("run rnn --x1 huge.npy --dtype float32", "x1: 'x' holds inf at [0, 0, 0]"),
        ("plot none.npz -o P.png", "cannot read none.npz: no such file or directory"),
        ("plot text.npy -o P.png", "text.npy is not a .npz or .npy file"),
        ("plot empty.npz -o P.png", "empty.npz is empty"),
        ("plot cut.npz -o P.png", "cut.npz is not a .npz or .npy file, or is damaged"),
        ("plot line.npy -o P.png", "is not a kernel"),
        ("plot . -o P.png", "cannot read .: is a directory"),
    ],
)
def test_wrong_data(tpc, line, message):
    save("good.npy", 2, 5, 4)
    save("flat.npy", 5, 4)
    save("wide.npy", 2, 5, 3)
    save("line.npy", 5)
    np.save("nan.npy", np.full((2, 5, 4), np.nan))
    np.save("huge.npy", np.full((2, 5, 4), 1e300))
    Path("text.npy").write_text("not an array")
    Path("empty.npz").touch()
    np.savez("whole.npz", nngp=np.eye(50))
    Path("cut.npz").write_bytes(Path("whole.npz").read_bytes()[:900])
    Path("P.png").write_text("before")
    assert message in tpc(line, 1)[1]
    assert Path("P.png").read_text() == "before"


# ---------------------------------------------------------------- the command line is wrong: 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "VERB"),
        ("chek rnn", "invalid choice: 'chek'"),
        ("check", "PROGRAM"),
        ("check rnn mlp", "unrecognized arguments: mlp"),
        ("check rnn --set var_w", "is not of the form NAME=VALUE"),
        ("check rnn --set =1", "is not of the form NAME=VALUE"),
        ("check rnn --set var_w=", "is not of the form NAME=VALUE"),
        ("check rnn --set var_w=1 --set var_w=2", "--set gives 'var_w' twice: 1 and 2"),
        ("derive rnn --get both", "invalid choice"),
        ("derive rnn --format pdf", "invalid choice"),
        ("compile rnn", "--emit"),
        ("compile rnn --emit cor", "invalid choice"),
        ("compile rnn --emit jaxpr", "jaxpr needs the sizes of the data: --shape x=5,8, say, or --x1"),
        ("compile rnn --emit core --shape x=5,8", "--shape and --x1 are for jaxpr and stablehlo"),
        ("compile rnn --emit core --get ntk", "--get is for jaxpr and stablehlo"),
        ("compile rnn --emit jaxpr --shape x=5,0", "is not of the form NAME=SIZE,SIZE"),
        ("compile rnn --emit jaxpr --shape x=5,b", "is not of the form NAME=SIZE,SIZE"),
        ("compile rnn --emit jaxpr --shape x=5,8 --shape 5,8", "--shape gives 'x' twice"),
        ("compile gcn --emit jaxpr --shape 5,8", "--shape needs a name"),
        ("compile rnn --emit jaxpr --shape x=5,8 --x1 good.npy", "not by both"),
        ("run rnn", "--x1 is needed: the program rnn reads x"),
        ("run rnn --x1 good.npy --get gp", "'gp' is no kernel: nngp or ntk"),
        ("run rnn --x1 good.npy --get nngp,nngp", "names a kernel twice"),
        ("run rnn --x1 good.npy --tile 0", "'0' is not a number of samples"),
        ("run rnn --x1 good.npy --dtype int32", "invalid choice"),
        ("run rnn --x1 y=good.npy", "the program rnn has no input 'y'"),
        ("run rnn --x1 good.npy --x1 good.npy", "--x1 gives 'x' twice"),
        ("run rnn --x1 x=", "--x1: no data in 'x='"),
        ("run gcn --x1 good.npy", "--x1 needs a name, x=…: the program reads x, adj"),
        ("run semicircle --x1 good.npy", "the program semicircle has no inputs"),
        ("run rnn --x1 good.npy -o K.txt", "its name must end in .npz or .npy"),
        ("run rnn --x1 good.npy -o K.npy", "K.npy holds one kernel: say which with --get"),
        ("run rnn --x1 good.npy -o no/K.npz", "cannot write no/K.npz: there is no directory"),
        ("derive rnn -o .", "cannot write .: it is a directory"),
        ("plot K.npz", "-o"),
        ("plot K.npz -o P.jpg", "its name must end in .png, .pdf or .svg"),
    ],
)
def test_wrong_command_lines(tpc, line, message):
    save("good.npy", 2, 5, 4)
    assert message in tpc(line, 2)[1]


def test_wrong_shapes(tpc):
    assert "--shape: 'x' has the shape (T, d) here, not (5,)" in tpc("compile rnn --emit jaxpr --shape x=5", 1)[1]
    assert "--shape: the data for 'adj' are missing" in tpc("compile gcn --emit jaxpr --shape x=5,8", 1)[1]


# ---------------------------------------------------------------- failures on the way


def test_files_that_are_there_stay_as_they_are_when_a_run_fails(tpc, monkeypatch):
    save("A.npy", 3, 4)
    before = b"before"
    for name in ("K.npz", "core.netsor"):
        Path(name).write_bytes(before)
    tpc("run mlp --x1 none.npy -o K.npz", 1)
    tpc("compile nowhere --emit core -o core.netsor", 1)

    def breaks(archive, file, name):
        archive.fp.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", breaks)
    assert "cannot write K.npz: no space left on device" in tpc("run mlp --x1 A.npy -o K.npz", 1)[1]
    assert Path("K.npz").read_bytes() == Path("core.netsor").read_bytes() == before
    assert sorted(p.name for p in Path().iterdir()) == ["A.npy", "K.npz", "core.netsor"]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (MemoryError(), 1, "the memory does not suffice: try fewer samples, --tile, or --dtype float32"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), 1, "the memory does not suffice"),
        (RecursionError(), 1, "nested too deeply"),
    ],
)
def test_interruptions(tpc, monkeypatch, error, status, message):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr("tensorprog.api.load", fails)
    assert message in tpc("check mlp", status)[1]


def test_a_mistake_of_our_own_is_one_line_unless_asked_for(capsys, monkeypatch):
    def fails(*_, **__):
        raise KeyError("lost")

    monkeypatch.setattr("tensorprog.api.load", fails)
    assert main(["check", "mlp"]) == 1
    assert capsys.readouterr().err.startswith("tpc check: error: internal error: KeyError: 'lost'")
    monkeypatch.setenv("TENSORPROG_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["check", "mlp"])


def test_the_entry_point_is_what_the_package_promises():
    assert import_module("tensorprog.cli").main is main


def test_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "tensorprog.cli", "check", "nowhere"], capture_output=True, text=True, cwd=_root()
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("nowhere: error: ")


def test_a_reader_that_goes_away_is_no_error():
    command = f"{shlex.quote(sys.executable)} -m tensorprog.cli compile cnn_pool --emit core | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=_root())
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_terminal_without_unicode(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["check", "semicircle"]) == 0
    assert b"Netsor\\u22a4" in stream.buffer.getvalue()


def _root() -> Path:
    return Path(__file__).resolve().parents[1]


# ---------------------------------------------------------------- progress


def test_the_bar_counts_tiles(monkeypatch):
    shown = io.StringIO()
    shown.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", shown)
    with Progress("kernel") as progress:
        progress(1, 4)
        progress.bar.delay = 0
        progress(3, 4)
        progress.bar.refresh()
    assert "3/4" in shown.getvalue()


def test_short_work_shows_no_bar(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with Progress("kernel") as progress:
        progress(1, 1)
    assert shown.getvalue() == ""
