"""Choices on the way to a module: they are named, change nothing but time and memory, and hold in both dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import tensorprog as tp
from tensorprog.backend.code.arrays import aligned, chosen, product_of, summed
from tensorprog.backend.code.printer import expression
from tensorprog.backend.code.tree import Array, Each, Literal, Name, call
from tensorprog.backend.memory import Footprint, available_memory
from tensorprog.backend.runtime.inner_products import FEW_FEATURES, inner_products
from tensorprog.backend.runtime.windows import entrywise, merge_axes, placed, take, window_sums
from tensorprog.backend.schedule import Loop, schedule
from tensorprog.backend.tiles import CPU_TABLE, Tiling, tiling

GIB = 2**30


def images(samples, side, seed=0):
    return np.random.default_rng(seed).normal(size=(samples, side, side, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "parameters", "shape"),
    [
        ("mlp", {"depth": 21}, (12, 30)),
        ("cnn_flat", {"depth": 21}, (3, 10, 10, 3)),
        ("cnn_pool", {"depth": 21}, (2, 6, 6, 3)),
        ("rnn_avgpool", {}, (5, 21, 4)),
    ],
)
def test_single_precision_against_double(name, parameters, shape):
    x1, x2 = np.random.default_rng(1).normal(size=(2, *shape)).astype(np.float32)
    program = tp.load(name, **parameters)
    kernels = [program.kernel(dtype=dtype) for dtype in (np.float32, np.float64)]
    for other in (x2, None):
        single, double = (kernel(x1, other) for kernel in kernels)
        for low, high in zip(single, double, strict=True):
            assert low.dtype == np.float32
            np.testing.assert_allclose(
                low, high, rtol=1e-5, atol=1e-5 * float(np.abs(high).max()) * (name == "rnn_avgpool")
            )


# ---------------------------------------------------------------- pieces


@pytest.mark.parametrize("passes", [
    [((1,), range(-1, 2), (0,), (7,))],
    [((2,), range(-1, 2), (0,), (5,)), ((1,), range(-2, 2), (0,), (7,))],
    [((1, 2), range(-1, 2), (0, 0), (7, 5))],
    [((3, 1), range(-1, 2), (1, 0), (2, 7))],
    [((2,), range(0, 3), (1,), (4,)), ((1,), range(-1, 1), (2,), (5,))],
    [((3, 4), range(-1, 2), (0, 0), (4, 4)), ((1, 2), range(-1, 2), (0, 0), (7, 5))],
])  # fmt: skip
def test_windows_are_sums_of_shifts(passes):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 5, 4, 4)))
    plain = x
    for axes, offsets, starts, sizes in passes:
        plain = sum(take(plain, axes, [s + o for s in starts], sizes) for o in offsets)
    np.testing.assert_allclose(window_sums(x, passes), plain, rtol=1e-13, atol=1e-13)
    gradient, wanted = (jax.jit(jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x)))))(x) for f in (
        lambda x: window_sums(x, passes),
        lambda x: plain_windows(x, passes),
    ))  # fmt: skip
    np.testing.assert_allclose(gradient, wanted, rtol=1e-12, atol=1e-12)


def plain_windows(x, passes):
    for axes, offsets, starts, sizes in passes:
        x = sum(take(x, axes, [s + o for s in starts], sizes) for o in offsets)
    return x


@pytest.mark.parametrize("features", [1, 3, FEW_FEATURES, FEW_FEATURES + 1])
@pytest.mark.parametrize("subscripts", ["abcd,ebcd->aebc", "abcd,efgd->aebcfg", "abcd,ecbd->aebc", "abcd,abcd->abc"])
def test_inner_products_are_an_einsum(subscripts, features):
    generator = np.random.default_rng(0)
    x, y = (generator.normal(size=(2 if subscripts[5] == "a" else n, 4, 4, features)) for n in (2, 5))
    wanted = np.einsum(subscripts, x, y) / features
    np.testing.assert_allclose(
        inner_products(subscripts, jnp.asarray(x), jnp.asarray(y)), wanted, rtol=1e-12, atol=1e-14
    )


def test_entries_do_not_notice_merged_axes():
    generator = np.random.default_rng(0)
    arrays = [jnp.asarray(generator.normal(size=n)) for n in ((2, 3, 4, 5, 4, 5), (2, 1, 4, 5, 1, 1), (3, 1, 1, 4, 5))]
    wanted = jnp.sin(arrays[0] * arrays[1]) + arrays[2]
    seen = []

    def function(a, b, c):
        seen.append((a.shape, b.shape, c.shape))
        return jnp.sin(a * b) + c

    np.testing.assert_array_equal(entrywise(function, ((2, 4), (4, 6)), *arrays), wanted)
    assert seen == [((2, 3, 20, 20), (2, 1, 20, 1), (1, 3, 1, 20))]
    # An array that has one of two axes keeps both apart.
    halves = (arrays[0], jnp.asarray(generator.normal(size=(4, 1, 1, 1))), arrays[2])
    np.testing.assert_array_equal(
        entrywise(function, ((2, 4), (4, 6)), *halves), jnp.sin(arrays[0] * halves[1]) + halves[2]
    )
    assert merge_axes(arrays[0], ((2, 4),)).shape == (2, 3, 20, 4, 5)


@pytest.mark.parametrize("name", ["cnn_flat", "cnn_pool"])
def test_images_of_other_proportions(name):
    """Merged axes come apart where the two sides have other sizes: against transposes and a blank margin."""
    generator = np.random.default_rng(0)
    x1, x2 = generator.normal(size=(3, 5, 7, 2)), generator.normal(size=(2, 6, 4, 2))
    kernel = tp.load(name, depth=3).kernel()
    one, other = kernel(x1, x2), kernel(x2, x1)
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b.T, rtol=1e-12)
    turned = kernel(x1.transpose(0, 2, 1, 3), x2.transpose(0, 2, 1, 3))  # the filters are as wide as they are high
    for a, b in zip(one, turned, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


FILTERED = """\
program filtered(H, W, slope = 1/3)
input x[i = 1..H, j = 1..W] : R(d)
weight K[a = -1..1, b = -1..1] : A(n, d) ~ N(0, 1) / sqrt(d)
weight L : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
for i = 1..H, j = 1..W:
    h[i, j] := sum[a = -1..1, b = -1..1](K[a, b] @ (x[i+a, j+b] else 0))
for i = 1..H, j = 1..W:
    z[i, j] := leaky_relu(h[i, j], slope) + sin(slope * i * h[i, j])
output y := sum[i = 1..H, j = 1..W](v.T @ relu(L @ z[i, j])) / sqrt(n)
"""


def test_names_of_a_program_do_not_meet_those_of_the_source():
    generator = np.random.default_rng(0)
    data = generator.normal(size=(3, 2, 3, 2)), generator.normal(size=(2, 2, 3, 2))
    wanted = tp.parse(FILTERED).kernel()(*data)
    assert "entrywise" in tp.parse(FILTERED).kernel().backend.module.source
    for name in ("_same", "entrywise", "s_L"):  # one of each kind; tests of renaming take all
        found = tp.parse(FILTERED.replace("slope", name)).kernel()(*data)
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-13)


SCALED = """\
program scaled(sigma = 2)
input x : R(d)
weight U : A(n, d) ~ N(0, 1) * sigma / sqrt(d)
weight W : A(n, n) ~ N(0, 1) * sigma / sqrt(n)
vector v : G(n) ~ N(0, 1)
output y := v.T @ relu(W @ relu(U @ x)) / sqrt(n)
"""


@pytest.mark.parametrize("name", ["s_W", "s_U", "relu_dual", "gram_x", "f1", "step_1", "x_left"])
def test_a_parameter_may_have_any_name(name):
    """s_W is also what the source calls the variance of W."""
    x = np.random.default_rng(0).normal(size=(3, 4))
    found, wanted = (tp.parse(SCALED.replace("sigma", n)).kernel()(x) for n in (name, "sigma"))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_value_that_does_not_depend_on_all_entries():
    """The mean of one factor is 0, whatever index the other is multiplied by."""
    x = jnp.arange(6.0).reshape(2, 3)
    found = entrywise(lambda a, b: 0 * a, ((1, 3),), jnp.ones((2, 1, 1)), x)
    np.testing.assert_array_equal(found, np.zeros((2, 2, 3)))


def test_pieces_are_placed():
    one, two = jnp.ones((2, 3)), jnp.full((2, 2), 2.0)
    whole = slice(None)
    np.testing.assert_array_equal(
        placed((2, 3, 4), one.dtype, [((whole, whole, 1), one, False), ((whole, slice(1, 3), 3), two, False)]),
        np.zeros((2, 3, 4)) + np.eye(4)[1] + 2 * np.eye(4)[3] * np.array([0, 1, 1])[:, None],
    )
    strided = placed((2, 5), one.dtype, [((whole, slice(0, 5, 2)), one, False)])
    np.testing.assert_array_equal(strided, [[1, 0, 1, 0, 1]] * 2)
    np.testing.assert_array_equal(placed((2,), one.dtype, []), [0, 0])


def test_pieces_that_share_a_place_add_up_and_others_may_not_share_one():
    piece = jnp.array([1.0, 0.0]), jnp.array([0.0, 2.0])
    parts = [((slice(1, 3),), p, True) for p in piece]
    np.testing.assert_array_equal(placed((4,), piece[0].dtype, parts), [0, 1, 2, 0])
    with pytest.raises(AssertionError, match="two clauses hold in one place"):
        placed((4,), piece[0].dtype, [(w, p, False) for w, p, _ in parts])


# ---------------------------------------------------------------- passes


def test_a_recurrent_network_keeps_neither_its_history_nor_its_grams():
    program = tp.load("rnn_avgpool")
    module = program.kernel().backend.module
    names = [line.split(":")[0] for line in module.lowering if not line.startswith(" ")]
    for name in ("no zero borders", "once a side", "scan", "Gram in the loop", "sum in the loop", "expectation"):
        assert name in names
    x = {"x": np.zeros((2, 50, 3))}
    footprint = Footprint(program.recursion.program, module.footprint)
    sizes = footprint.sizes_of(x)
    assert footprint.entries("pair", sizes, sizes) < 10 * 50  # linear in T, not T²


def test_grams_go_into_the_loop_that_alone_reads_them():
    recursion = tp.load("rnn_avgpool").recursion
    (loop,) = [item for item in schedule(recursion.system("cross"), {}) if isinstance(item, Loop)]
    assert "gram" in {key.kind for key in loop.keys}
    outside = schedule(tp.load("cnn_pool").recursion.system("cross"), {"depth": 21})
    assert all("gram" not in {key.kind for key in item.keys} for item in outside if isinstance(item, Loop))


def test_a_sum_over_a_part_of_the_steps_needs_the_history():
    text = """program late(T)
input x[t = 1..T] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
weight W : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
s[0] := 0
for t = 1..T:
    s[t] := erf(W @ s[t-1] + U @ x[t])
output y := sum[t = 3..T](v.T @ s[t]) / sqrt(n)
"""
    x = np.random.default_rng(0).normal(size=(3, 6, 2))
    late = tp.parse(text)
    assert not any("sum in the loop" in line for line in late.kernel().backend.module.lowering)
    whole = tp.parse(text.replace("t = 3..T](", "t = 1..T]("))
    assert any("sum in the loop" in line for line in whole.kernel().backend.module.lowering)
    # The sum over all steps is that over the late ones, the early ones, and both crosses.
    singles = tp.parse(text.replace("output y := sum[t = 3..T](v.T @ s[t]) / sqrt(n)",
                                    "output y[t = 1..T] := v.T @ s[t] / sqrt(n)"))  # fmt: skip
    entries = np.asarray(singles.kernel()(x, None, "nngp"))
    np.testing.assert_allclose(whole.kernel()(x, None, "nngp"), entries.sum((2, 3)), rtol=1e-12)
    np.testing.assert_allclose(late.kernel()(x, None, "nngp"), entries[:, :, 2:, 2:].sum((2, 3)), rtol=1e-12)


# ---------------------------------------------------------------- tiles and memory


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("n1", [1, 7, 1000, 1501])
@pytest.mark.parametrize("table", [4.0, 8 * 1024, 8 * 1024**2])
def test_tiles_cover_all_pairs(n1, table, symmetric):
    n2 = n1 if symmetric else 3 * n1 + 1
    tiles = tiling(n1, n2, symmetric, tile=None, table=table, tables=10 * table, cpu=True, memory=16 * GIB)
    assert tiles.rows * tiles.columns * table <= max(CPU_TABLE, table) * 1.01
    if len(tiles.corners) > 3000:
        return
    seen = np.zeros((n1, n2), bool)
    for i, j in tiles.corners:
        assert i + tiles.rows <= n1 and j + tiles.columns <= n2
        tiles.place(seen, np.ones((tiles.rows, tiles.columns), bool), i, j)
    assert seen.all()


def test_tiles_stay_within_the_memory():
    tiles = tiling(500, 500, False, tile=None, table=2**20, tables=2**24, cpu=False, memory=GIB)
    assert tiles.rows * tiles.columns * 2**24 <= GIB / 8
    assert tiling(500, 300, False, tile=200, table=1, tables=1, cpu=True, memory=1) == Tiling(500, 300, 200, 200, False)
    assert available_memory() > 0


def test_a_pair_of_pooled_images_takes_little():
    """What 32 × 32 pixels hold at once: two passes of some tables of 1024² pairs of pixels."""
    program = tp.load("cnn_pool")
    backend = program.kernel().backend
    x = {"x": images(1, 32)}
    sizes = backend._sizes(x, x)
    assert sizes.output == 1
    assert 1024**2 <= sizes.largest <= sizes.pair
    assert 2 * 4 * sizes.pair < GIB / 4


@pytest.mark.parametrize("get", ["nngp", ("nngp", "ntk")])
def test_streams_equal_what_is_computed_in_memory(kernel, program, tmp_path, get):
    x = np.random.default_rng(0).normal(size=(23, 5))
    tiled = program("mlp").kernel(tile=5)
    for other in (None, x[:7] + 1):
        whole = kernel("mlp")(x, other, get)
        path = tmp_path / ("K.npy" if isinstance(get, str) else "K.npz")
        finite = tiled.save(path, x, other, get)
        stored = np.load(path)
        names = (get,) if isinstance(get, str) else get
        assert finite == dict.fromkeys(names, True)
        for name, wanted in zip(names, (whole,) if isinstance(get, str) else whole, strict=True):
            found = stored if isinstance(get, str) else stored[name]
            np.testing.assert_allclose(found, wanted, rtol=1e-13)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_outputs_with_axes_are_streamed_too(tmp_path):
    text = """program tokens(T)
input x[t = 1..T] : R(d)
weight U : A(n, d) ~ N(0, 1) / sqrt(d)
vector v : G(n) ~ N(0, 1)
output y[t = 1..T] := v.T @ relu(U @ x[t]) / sqrt(n)
"""
    x = np.random.default_rng(0).normal(size=(7, 3, 2))
    whole = tp.parse(text).kernel()(x)
    tp.parse(text).kernel(tile=3).save(tmp_path / "K.npz", x)
    with np.load(tmp_path / "K.npz") as stored:
        for name in ("nngp", "ntk"):
            np.testing.assert_allclose(stored[name], getattr(whole, name), rtol=1e-13, atol=1e-15)


def test_nothing_half_written_stays(tmp_path):
    path = tmp_path / "K.npz"
    path.write_bytes(b"before")

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    x = np.random.default_rng(0).normal(size=(9, 4))
    with pytest.raises(KeyboardInterrupt):
        tp.load("mlp").kernel(tile=2, progress=stop).save(path, x)
    assert [p.name for p in tmp_path.iterdir()] == ["K.npz"] and path.read_bytes() == b"before"
    with pytest.raises(ValueError, match=r"K\.npy"):
        tp.load("mlp").kernel().save(tmp_path / "K.npy", x)
    with pytest.raises(OSError, match="cannot write"):
        tp.load("mlp").kernel().save(tmp_path / "nowhere" / "K.npz", x)
    with pytest.raises(OSError, match="the disk has"):
        tp.load("mlp").kernel().save(tmp_path / "K.npz", np.broadcast_to(np.float64(1), (1_000_000, 1)))


def test_scans_stay_scans():
    """Deep programs are no longer in source than shallow ones."""
    shallow, deep = (tp.load("cnn_pool", depth=depth).kernel().backend.module.source for depth in (5, 50))
    assert len(deep.splitlines()) == len(shallow.splitlines())
    assert lax.scan.__name__ in deep


def test_loops_of_no_steps_read_axes_without_entries(program):
    # With P = 1 the loop over p = 2..P has no step, and what it would read, over 2..P too, no entry.
    text = """program chain(P)
input x[p = 1..P] : R(d)
weight V : A(n, d) ~ N(0, 1) / sqrt(d)
weight B, U : A(n, n) ~ N(0, 1) / sqrt(n)
vector v : G(n) ~ N(0, 1)
h[p = 1..P] := V @ x[p]
c[p = 1..P] := h[1] if p != 1 else h[P]
s[0] := 0
for p = 1..P:
    s[p] := relu(U @ c[p]) if p == 1 else erf(B @ s[p-1] + U @ c[p])
output y := sum[p = 1..P](v.T @ s[p]) / sqrt(n)
"""
    x = np.random.default_rng(0).normal(size=(2, 1, 3))
    nngp, ntk = program(text).kernel()(x)
    k = x[:, 0] @ x[:, 0].T / 3
    c = k / np.sqrt(np.outer(np.diag(k), np.diag(k)))
    np.fill_diagonal(c, 1)
    slope = (np.pi - np.arccos(c)) / (2 * np.pi)
    right = k / c * np.sqrt(1 - c**2) / (2 * np.pi) + slope * k
    np.testing.assert_allclose(nngp, right, rtol=1e-12)
    np.testing.assert_allclose(ntk, right + 2 * slope * k, rtol=1e-7)


def test_a_choice_known_in_python_is_subscripted_by_its_branches():
    """Where the branch that is taken is a plain 0, the whole has no axes to put new ones between."""
    order = ("a", "b", "c", "d")
    table = np.arange(6.0).reshape(2, 3)
    nothing, known, times = Array(Literal(0)), Name("known"), Each("_", call("range", "times"))
    choice = chosen(Array(Name("table"), ("a", "c")), known, nothing, order)
    product = product_of([summed(choice, [times]), Array(Name("other"), order)], order)
    assert product.dims == order
    other = np.random.default_rng(0).normal(size=(2, 4, 3, 5))
    for test, count in [(True, 1), (True, 2), (False, 1), (True, 0)]:
        found = eval(expression(product), {"table": table, "other": other, "known": test, "times": count})
        expected = test * count * table[:, None, :, None] * other
        np.testing.assert_allclose(np.broadcast_to(found, other.shape), expected)
    choice = chosen(Array(Name("table.T"), ("c", "a")), known, nothing, order)
    turned = expression(aligned(choice, ("a", "b", "c"), order))
    np.testing.assert_array_equal(eval(turned, {"jnp": jnp, "table": table, "known": True}), table[:, None])
    assert eval(turned, {"jnp": jnp, "table": table, "known": False}) == 0
