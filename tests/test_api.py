"""`import tensorprog as tp`: loading, programs, kernels as callables, and the errors of each."""

import dataclasses
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.lowering import module_source

ROOT = Path(__file__).resolve().parents[1]
OPEN = """program open(s)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) * sqrt(s / d)
vector v : G(n) ~ N(0, 1)
output y := v.T @ relu(U @ x) / sqrt(n)
"""


def data(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


# ---------------------------------------------------------------- loading


def test_importing_is_fast_and_brings_no_compiler():
    code = "import sys, tensorprog; print({'jax', 'sympy', 'lark', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert tp.__version__ == project["version"]
    assert project["scripts"]["tpc"] == "tensorprog.cli:main"


def test_names():
    assert set(tp.__all__) <= set(dir(tp))
    with pytest.raises(AttributeError, match="nothing"):
        _ = tp.nothing


def test_a_bundled_name_and_a_path(tmp_path, monkeypatch):
    text = (ROOT / "programs" / "rnn.netsor").read_text()
    (tmp_path / "mine.netsor").write_text(text)
    assert str(tp.load("rnn")) == str(tp.load(tmp_path / "mine.netsor")) == text
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rnn").mkdir()  # a directory does not hide a bundled program, a file does
    assert tp.load("rnn").name == "rnn"
    (tmp_path / "mlp").write_text(OPEN)
    assert tp.load("mlp").name == "open"


def test_parameters():
    program = tp.load("rnn", var_w="1/3", phi="tanh", T=4)
    assert program.parameters["var_w"] == 1 / 3
    assert program.parameters["phi"] == "tanh"
    assert program.parameters["T"] == 4
    assert tp.load("rnn").parameters["T"] is None
    assert "var_w=" in repr(program)


def test_line_ends_and_byte_order_marks_do_not_matter(tmp_path):
    file = tmp_path / "p.netsor"
    file.write_bytes(b"\xef\xbb\xbf" + OPEN.replace("\n", "\r\n").encode())
    assert tp.load(file, s=1).core() == tp.parse(OPEN, s=1).core()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"program p\x00", "a binary file"),
        (b"program p\n// \xff\n", "this is no text in UTF-8: line 2 has the byte 0xff"),
        (b"a" * (2 << 20), "larger than 1 MiB"),
    ],
)
def test_files_that_are_no_programs(tmp_path, content, message):
    file = tmp_path / "bad.netsor"
    file.write_bytes(content)
    with pytest.raises(tp.ProgramError, match=message) as caught:
        tp.load(file)
    assert str(caught.value).startswith(f"{file}: error: ")


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("transfomer", "there is no such file or bundled program", "did you mean 'transformer'?"),
        ("nowhere/rnn.netsor", "there is no such file or bundled program", "did you mean 'rnn'?"),
        ("zzzzzz", "there is no such file or bundled program", "the bundled programs are attention"),
        (".", "this is a directory, not a program", None),
        ("a\0b", "the file cannot be read", None),
        ("x" * 5000, "the file cannot be read", None),
    ],
)
def test_programs_that_are_not_there(name, message, hint):
    with pytest.raises(tp.ProgramError, match=message) as caught:
        tp.load(name)
    assert (caught.value.hint or "").startswith(hint or "")


def test_a_wrong_program_has_a_place():
    with pytest.raises(tp.ProgramError) as caught:
        tp.parse(OPEN.replace("relu(", "rellu("), s=1)
    assert (caught.value.line, caught.value.column) == (5, 19)
    assert caught.value.hint == "did you mean 'relu'?"


def test_a_program_is_a_text():
    with pytest.raises(TypeError, match="a program is a text, not bytes"):
        tp.parse(OPEN.encode())


def test_programs_do_not_change():
    program = tp.load("mlp")
    with pytest.raises(dataclasses.FrozenInstanceError):
        program.ir = None


def test_the_core_form_is_a_program():
    program = tp.load("transformer", depth=1)
    core = program.core()
    assert "MatMul(" in core
    assert tp.parse(core).core() == core


# ---------------------------------------------------------------- derivations


def test_derive():
    derived = tp.load("rnn").derive("ntk")
    assert str(derived).strip()
    assert derived.get == "ntk"
    with pytest.raises(ValueError, match="get is 'nngp' or 'ntk', not 'gp'"):
        tp.load("rnn").derive("gp")


def test_the_forms_of_a_derivation():
    derived = tp.load("mlp").derive()
    assert "\\" in derived.latex()
    assert isinstance(derived.json(), dict)
    assert derived.equations


@pytest.mark.parametrize("get", ["ntk", ("nngp", "ntk")])
def test_there_is_no_ntk_through_a_jump(get):
    program = tp.load("mlp", phi="step")
    kernel = program.kernel()
    assert kernel(data(3, 4), get="nngp").shape == (3, 3)
    for ask in (lambda: program.derive("ntk"), lambda: kernel(data(3, 4), get=get)):
        with pytest.raises(tp.ProgramError, match=r"step.* jumps"):
            ask()


# ---------------------------------------------------------------- kernels


def test_calls():
    kernel = tp.load("rnn").kernel()
    x1, x2 = data(3, 5, 4), data(2, 7, 4)
    both = kernel(x1)
    assert both._fields == ("nngp", "ntk")
    assert both.nngp.shape == both.ntk.shape == (3, 3, 5, 5)
    assert kernel(x1, x2, "ntk").shape == (3, 2, 5, 7)
    assert kernel(x1, x2, ("ntk", "nngp"))._fields == ("ntk", "nngp")
    assert kernel(x1, None, ["nngp"])._fields == ("nngp",)
    np.testing.assert_allclose(kernel(x1, x1, "nngp"), both.nngp, rtol=1e-12)


def test_tiles_change_nothing():
    program, x = tp.load("mlp"), data(5, 4)
    seen = []
    tiled = program.kernel(tile=2, progress=lambda done, total: seen.append((done, total)))(x)
    np.testing.assert_allclose(tiled, program.kernel()(x), rtol=1e-12)
    assert seen[-1][0] == seen[-1][1] > 1


@pytest.mark.parametrize("name", ["mlp", "gru"])
def test_a_tolerance_is_positive(name):
    """Of kernels that are not sampled too, which it has no effect on."""
    x, kernel = data(3, 4) if name == "mlp" else data(3, 2, 4), tp.load(name).kernel()
    for bad in (0, -1.0, float("nan"), "small"):
        with pytest.raises(ValueError, match="tol is a positive standard error"):
            kernel(x, tol=bad)


def test_dtypes():
    program, x = tp.load("mlp"), data(3, 4)
    assert program.kernel()(x, get="nngp").dtype == np.float64
    assert program.kernel()(x.astype(np.float32), get="nngp").dtype == np.float32
    assert program.kernel(dtype="float32")(x, get="nngp").dtype == np.float32
    assert program.kernel(dtype=np.float64)(x.astype(np.float32), get="nngp").dtype == np.float64


def test_float64_is_not_promised_where_jax_has_it_switched_off():
    jax.config.update("jax_enable_x64", False)
    try:
        with pytest.raises(ValueError, match="jax_enable_x64"):
            tp.load("mlp").kernel(dtype="float64")
    finally:
        jax.config.update("jax_enable_x64", True)


def test_under_jit_and_grad():
    kernel, x = tp.load("mlp").kernel(), data(3, 4)
    np.testing.assert_allclose(jax.jit(kernel)(x).ntk, kernel(x).ntk, rtol=1e-12)

    def total(w):
        return kernel(x, get="nngp", params={"var_w": w}).sum()

    slope = (total(2.001) - total(1.999)) / 0.002
    assert np.isclose(jax.grad(total)(2.0), slope, rtol=1e-5)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"var_ww": 1.0}, "no parameter 'var_ww': did you mean 'var_w'?"),
        ({"phi": 1.0}, "'phi' is no real parameter: set it where the program is loaded"),
        ({"depth": 2}, "'depth' is no real parameter"),
        ({"var_w": [1.0, 2.0]}, r"'var_w' is one number, not an array of shape \(2,\)"),
        ({"var_w": float("nan")}, "a finite number is needed"),
        ({"var_w": "two"}, "'var_w' is a number, not 'two'"),
    ],
)
def test_wrong_params(params, message):
    with pytest.raises(ValueError, match=message):
        tp.load("mlp").kernel()(data(3, 4), params=params)


@pytest.mark.parametrize("get", ["gp", "", (), ("nngp", "nngp"), None, 1, ("nngp", 1)])
def test_wrong_get(get):
    with pytest.raises(ValueError, match="get is 'nngp', 'ntk' or a tuple of both"):
        tp.load("mlp").kernel()(data(3, 4), get=get)


def test_the_kernel_in_place_of_the_data():
    with pytest.raises(ValueError, match=r"write k\(x1, None, 'ntk'\)"):
        tp.load("mlp").kernel()(data(3, 4), "ntk")


@pytest.mark.parametrize(
    ("option", "value"), [("tile", 0), ("tile", 1.5), ("tile", True), ("dtype", "int32"), ("dtype", "nonsense")]
)
def test_wrong_options(option, value):
    with pytest.raises(ValueError, match=option):
        tp.load("mlp").kernel(**{option: value})


def test_a_parameter_without_a_value():
    with pytest.raises(tp.ProgramError, match="'s' has no value, and a number is needed") as caught:
        tp.parse(OPEN).kernel()(data(3, 4))
    assert caught.value.line == 1
    assert caught.value.hint == "pass s=1, say"


# ---------------------------------------------------------------- limits

SECOND_MOMENT = """program second(s = 1)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) * sqrt(s / d)
h := U @ x
output m := <h, h> / n
output two := 2
"""


def test_limits():
    x = data(3, 4)
    found = tp.parse(SECOND_MOMENT, s=2).limits(x)
    np.testing.assert_allclose(found["m"], 2 * (x**2).mean(axis=1), rtol=1e-12)
    with pytest.raises(ValueError, match="x1 is missing"):
        tp.parse(SECOND_MOMENT).limits()


def test_outputs_of_the_other_kind():
    with pytest.raises(tp.ProgramError, match="they have limits, and no kernel"):
        tp.parse(SECOND_MOMENT).kernel()
    with pytest.raises(tp.ProgramError, match="the program has no output of type C"):
        tp.load("mlp").limits()


def test_sizes_beyond_reason_are_refused_before_anything_is_allocated():
    with pytest.raises(tp.ProgramError, match="this loop runs 999999999 times"):
        tp.load("mlp", depth=10**9)
    with pytest.raises(ValueError, match="memory"):
        tp.load("mlp").kernel()(np.broadcast_to(np.float64(1), (3_000_000, 1)))


def test_a_call_gives_the_value_of_a_parameter_without_one():
    text = "program p(s)\ninput x : R(d)\nweight W : A(n, d) ~ N(0, s/d)\nvector v : G(n) ~ N(0, 1)\n"
    program = tp.parse(text + "output y := v.T @ relu(W @ x) / sqrt(n)\n")
    found = program.kernel()(np.ones((1, 2)), params={"s": 3.0})
    assert found.nngp[0, 0] == pytest.approx(1.5)
    assert found.ntk[0, 0] == pytest.approx(1.5 + 0.5 * 2)  # W itself is trained, and x has the squared norm 2
    with pytest.raises(tp.ProgramError, match="'s' has no value"):
        module_source(program.recursion)
