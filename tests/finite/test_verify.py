"""Finite networks against the limits: deviations that fall like 1/sqrt(n), in Python and on the command line."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.cli import main

WIDTHS = (32, 192)
SEEDS = 10

CASES = {
    "mlp": ((3, 6), {}),
    "resnet": ((3, 6), {"depth": 2}),
    "rnn": ((2, 4, 5), {}),
    "rnn_avgpool": ((2, 4, 5), {}),
    "gru": ((2, 2, 5), {}),
    "lstm": ((2, 2, 5), {}),
    "transformer": ((2, 3, 5), {"depth": 1}),
    "batchnorm": ((1, 6, 5), {}),
    "cnn_flat": ((2, 3, 3, 2), {"depth": 2}),
    "cnn_pool": ((2, 3, 3, 2), {"depth": 2}),
    "cnn_circular": ((2, 5, 3), {}),
    "embedding": (np.array([[1, 5, 5, 2], [16, 1, 3, 7], [2, 5, 1, 1]]), {}),
    "myrtle": ((2, 4, 5, 2), {}),
    "wide_resnet": ((1, 3, 4, 2), {"blocks": 1}),
    "gcn": ({"x": (2, 4, 3), "adj": (2, 4, 4)}, {}),
    "attention": ((2, 2, 4), {}),
    "transformer_heads": ((2, 2, 4), {}),
    "squeeze": ((2, 4, 2), {}),
    "cnn_max": ((2, 4, 2), {}),
    "mgu": ((2, 2, 4), {}),
    "batchnorm_phi": ((1, 5, 4), {"eps": 0.1}),
    "tied_autoencoder": ((3, 6), {}),
    "semicircle": (None, {"K": 3}),
}


@pytest.fixture(autouse=True)
def _double_precision_stays():
    yield
    jax.config.update("jax_enable_x64", True)


LONGEST = ("gru", "lstm", "mgu", "cnn_max", "batchnorm_phi", "wide_resnet")  # limits are sampled, or networks large


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONGEST)) for n in CASES])
def test_deviations_fall_like_one_over_the_root_of_the_width(name, rng):
    shape, settings = CASES[name]
    program = tp.load(name, **settings)
    x = (
        {k: rng.normal(size=s) for k, s in shape.items()}
        if isinstance(shape, dict)
        else shape
        if shape is None or isinstance(shape, np.ndarray)
        else rng.normal(size=shape)
    )
    found = tp.verify(program, x, widths=WIDTHS, seeds=SEEDS)
    assert set(found.slopes) == ({"m"} if name == "semicircle" else {"nngp", "ntk"})
    for kernel, slope in found.slopes.items():
        assert -0.7 <= slope <= -0.35, f"{kernel}: {slope}\n{found}"
        middle = found.quantiles[kernel][-1, 1]
        assert 0 < middle < 0.5, found


def test_transformer_of_two_layers_with_variances_other_than_one(rng):
    """Where a published backward recursion has the wrong power of var_u, by a third of the NTK."""
    program = tp.load("transformer", depth=2, var_u=2)
    found = tp.verify(program, rng.normal(size=(2, 2, 4)), widths=(64, 256), seeds=6, get="ntk")
    assert -0.75 <= found.slopes["ntk"] <= -0.3, found
    assert found.quantiles["ntk"][-1, 1] < 0.12, found


def test_wrong_theory_shows(rng):
    """Against the limit of another program, deviations stay where they are."""
    x = rng.normal(size=(3, 6))
    program = tp.load("mlp", phi="tanh")
    found = tp.verify(program, x, widths=(64, 256), seeds=10, get="nngp", replicates=1)
    assert found.deviations["nngp"].shape == (2, 10)
    right = np.linalg.norm(found.finite["nngp"] - found.limits["nngp"])
    other = tp.load("mlp", phi="erf").kernel()(x, None, "nngp")
    assert right < 0.3 * np.linalg.norm(found.finite["nngp"] - other)


def test_result(rng, tmp_path):
    calls = []
    x = rng.normal(size=(2, 5))
    found = tp.verify(tp.load("mlp"), x, [32, 16], seeds=[3, 5, 9], progress=lambda *at: calls.append(at))
    assert found.widths == (16, 32) and found.seeds == (3, 5, 9)
    assert calls == [(k, 6) for k in range(1, 7)]
    assert found.networks == (48, 48)
    assert found.limits["ntk"].shape == found.finite["ntk"].shape == (2, 2)
    one = tp.verify(tp.load("mlp"), x, [16], seeds=[5], get="nngp", replicates=1)
    assert one.means["nngp"] == one.deviations["nngp"][0] == found.deviations["nngp"][0, 1]
    assert one.slopes == {"nngp": None} and "slope nngp: none" in str(one)
    assert json.loads(json.dumps(found.json()))["widths"] == [16, 32]
    for suffix in ("png", "pdf", "svg"):
        found.plot(tmp_path / f"p.{suffix}")
        assert (tmp_path / f"p.{suffix}").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"must end in \.png"):
        found.plot(tmp_path / "p.txt")


def test_kernels_with_standard_errors(rng, monkeypatch):
    """A sampled limit says how far it may be off, and the table repeats it."""
    from collections import namedtuple

    from tensorprog.api import Kernel

    plain = Kernel.__call__

    def sampled(self, x1, x2=None, get="nngp", *, return_stderr=False):
        values = plain(self, x1, x2, get)
        if not return_stderr:
            return values
        fields = [*values._fields, *(f"{name}_stderr" for name in values._fields)]
        return namedtuple("Kernels", fields)(*values, *(0.001 * abs(v) for v in values))

    monkeypatch.setattr(Kernel, "__call__", sampled)
    found = tp.verify(tp.load("mlp"), rng.normal(size=(2, 5)), [16, 32], seeds=2)
    assert found.limit_errors == pytest.approx({"nngp": 0.001, "ntk": 0.001})
    assert "the limit of nngp is an estimate itself: its relative standard error is 0.001" in str(found)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": []}, "widths are integers"),
        ({"widths": [64, 0]}, "widths are integers"),
        ({"widths": [8.5]}, "widths are integers"),
        ({"seeds": 0}, "seeds is their number"),
        ({"seeds": "ten"}, "seeds is their number"),
        ({"replicates": 0}, "replicates is a number of networks"),
        ({"get": "kernel"}, "get is 'nngp', 'ntk'"),
        ({"x1": np.zeros((2, 3, 4))}, "'x' has the shape"),
        ({"x1": None}, "x1 is missing"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tp.verify(tp.load("mlp"), **{"x1": np.ones((2, 5)), "widths": [8], "seeds": 1, **arguments})


# -------------------------------------------------------------- the command line


@pytest.fixture
def tpc(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, status: int = 0):
        capsys.readouterr()
        assert main(["verify", *arguments]) == status
        return capsys.readouterr()

    return run


def test_command(tpc):
    shown = tpc("mlp", "--x1", "digits[:3]", "--widths", "16,32,...,64", "--seeds", "4", "--plot", "p.png")
    lines = shown.out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["16", "32", "64"]
    assert lines[1].split() == ["width", "nngp", "ntk"]
    for name, line in zip(("nngp", "ntk"), lines[-2:], strict=True):
        assert line.startswith(f"slope {name}: -0.")
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")


def test_command_for_outputs_of_type_c(tpc):
    shown = tpc("semicircle", "--set", "K=2", "--widths", "16,32", "--seeds", "3", "--json")
    found = json.loads(shown.out)
    assert found["widths"] == [16, 32] and np.shape(found["deviations"]["m"]) == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["mlp"], 2, "--x1 is needed: the program mlp reads x"),
        (["mlp", "--x1", "digits[:2]", "--widths", "64,x"], 2, "'64,x' is not a list of widths"),
        (["mlp", "--x1", "digits[:2]", "--widths", "...,64"], 2, "is not a list of widths"),
        (["mlp", "--x1", "digits[:2]", "--seeds", "0"], 2, "'0' is not a number of seeds"),
        (["mlp", "--x1", "digits[:2]", "--plot", "p.gif"], 2, "its name must end in .png or .pdf or .svg"),
        (["mlp", "--x1", "digits[:2]", "--get", "nkt"], 2, "did you mean 'ntk'"),
        (["mlp", "--set", "phi=step", "--x1", "digits[:2]"], 1, "--get nngp verifies the other kernel"),
    ],
)
def test_command_line_errors(tpc, arguments, status, message):
    assert message in tpc(*arguments, status=status).err
