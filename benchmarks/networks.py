"""The networks of the comparisons in `stax`, by name: for the environment of neural-tangents alone."""

from __future__ import annotations

from neural_tangents import stax

ROOT_2 = 2**0.5
MYRTLE = {5: (2, 1, 1), 7: (2, 2, 2), 10: (3, 3, 3)}


def dense(root=ROOT_2):
    return stax.Dense(1, W_std=root, b_std=None)


def conv(shape, strides=None, padding="SAME"):
    return stax.Conv(1, shape, strides, padding, W_std=ROOT_2, b_std=None)


def _function(layer):
    return stax.serial(dense(), layer, dense(1.0))


def _filters(*layers):
    return stax.serial(*layers, stax.GlobalAvgPool(), dense(1.0))


def _myrtle(depth):
    pool = stax.AvgPool((2, 2), strides=(2, 2))
    layers = []
    for convolutions in MYRTLE[depth]:
        layers += [conv((3, 3)), stax.Relu()] * convolutions + [pool]
    return stax.serial(*layers, pool, pool, stax.Flatten(), dense())


def _wide_resnet(blocks):
    def block(strides=(1, 1), mismatch=False):
        main = stax.serial(stax.Relu(), conv((3, 3), strides), stax.Relu(), conv((3, 3)))
        shortcut = conv((3, 3), strides) if mismatch else stax.Identity()
        return stax.serial(stax.FanOut(2), stax.parallel(main, shortcut), stax.FanInSum())

    def group(strides=(1, 1)):
        return [block(strides, True), *[block() for _ in range(blocks - 1)]]

    return _filters(conv((3, 3)), *group(), *group((2, 2)), *group((2, 2)))


def _circular(shape, layers):
    return _filters(*[conv(shape, padding="CIRCULAR"), stax.Relu()] * layers)


def _strided():
    strided = [conv((3,), (2,)), stax.Relu()]
    return _filters(conv((3,)), stax.Relu(), *strided, *strided)


def _strided_layernorm():
    strided = [conv((3,), (2,)), stax.LayerNorm(), stax.Relu()]
    return _filters(conv((3,)), stax.LayerNorm(), stax.Relu(), *strided, *strided)


def _transposed():
    up = stax.ConvTranspose(1, (3,), (2,), "SAME", W_std=ROOT_2, b_std=None)
    return _filters(conv((3,)), stax.Relu(), up, stax.Relu())


NETWORKS = {
    "mlp": lambda depth: stax.serial(*[dense(), stax.Relu()] * depth, dense(1.0)),
    "cnn_flat": lambda depth: stax.serial(*[conv((3, 3)), stax.Relu()] * depth, stax.Flatten(), dense(1.0)),
    "cnn_pool": lambda depth: _filters(*[conv((3, 3)), stax.Relu()] * depth),
    "myrtle": _myrtle,
    "wide_resnet": lambda blocks: _wide_resnet(blocks),
    "transposed": _transposed,
    "circular_1d": lambda: _circular((3,), 3),
    "circular_2d": lambda: _circular((3, 3), 2),
    "strided": _strided,
    "strided_layernorm": _strided_layernorm,
    "layernorm": lambda: _function(stax.serial(stax.LayerNorm(), stax.Relu())),
    "relu_squared": lambda: _function(stax.RectifiedMonomial(2)),
    "gaussian": lambda: _function(stax.Gaussian(1, -1)),
    "gabor": lambda: _function(stax.Gabor()),
}
