"""Counts against closed forms and against the tables of the paper specifications."""

from __future__ import annotations

import keras
import pytest
from keras import layers

from tfspec.deploy.complexity import count_macs, peak_activation
from tfspec.errors import ModelError


def vocal_unet(bins: int, frames: int, base: int, depth: int) -> keras.Model:
    """The published vocal U-Net, written here from its layer table."""

    def block(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same")(x)
            x = layers.ReLU()(layers.BatchNormalization()(x))
        return x

    inputs = keras.Input((bins, frames, 1))
    x, skips = inputs, []
    for level in range(depth):
        x = block(x, base * 2**level)
        skips.append(x)
        x = layers.MaxPooling2D()(x)
    x = block(x, base * 2**depth)
    for level in reversed(range(depth)):
        x = layers.Conv2DTranspose(base * 2**level, 2, strides=2)(x)
        x = block(layers.Concatenate()([x, skips[level]]), base * 2**level)
    return keras.Model(inputs, layers.Conv2D(1, 1)(x))


# (bins, frames, base, depth): MMACs and peak bytes in int8 as tabulated by the specification.
TABLE = {
    (512, 128, 64, 4): (48_092, 16_777_216),
    (128, 16, 4, 3): (4.55, 32 * 1024),
    (128, 32, 4, 4): (11.9, 64 * 1024),
    (128, 16, 8, 3): (18.1, 64 * 1024),
    (128, 32, 8, 3): (36.1, 128 * 1024),
    (512, 128, 4, 3): (145.8, 1024 * 1024),
}


@pytest.mark.parametrize("setting", TABLE, ids=str)
def test_vocal_unet_counts_equal_the_tables(setting):
    mmacs, peak = TABLE[setting]
    model = vocal_unet(*setting)
    assert count_macs(model) / 1e6 == pytest.approx(mmacs, rel=5e-3)  # tables keep three digits
    assert peak_activation(model) == peak


def test_paper_stages_sum_exactly():
    # enc1 .. up4 of the table: in units of 512*128*64*64*9 MACs (one 64-to-64 convolution).
    unit = 512 * 128 * 64 * 64 * 9
    transposed = 64 * 16 * 1024 * 512  # in_positions/4 * 2*2 kernel, the same for each level
    first, head = 512 * 128 * 9 * 64, 512 * 128 * 64
    expected = first + unit + 4 * (unit // 2 + unit) + 4 * (transposed + 2 * unit + unit) + head
    assert count_macs(vocal_unet(512, 128, 64, 4)) == expected


def single(layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (layers.Conv2D(6, (3, 5), strides=2, padding="same"), (8, 6, 4), 4 * 3 * 15 * 4 * 6),
        (layers.Conv2D(6, 3, groups=2), (8, 6, 4), 6 * 4 * 9 * 2 * 6),
        (layers.Conv2D(5, 3, dilation_rate=2, padding="same"), (8, 8, 1), 64 * 9 * 5),
        (layers.Conv1D(5, 4, padding="causal"), (10, 3), 10 * 4 * 3 * 5),
        (layers.Conv2DTranspose(6, 3, strides=2), (8, 6, 4), 48 * 9 * 4 * 6),
        (layers.Conv1DTranspose(6, 4, strides=2), (8, 4), 8 * 4 * 4 * 6),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (8, 6, 4), 24 * 9 * 8),
        (layers.SeparableConv2D(5, 3, padding="same"), (8, 6, 4), 48 * (9 * 4 + 4 * 5)),
        (layers.Dense(7), (3, 5), 3 * 5 * 7),
        (layers.Dense(7), (5,), 35),
        (layers.BatchNormalization(), (8, 6, 4), 0),
        (layers.UpSampling2D(), (8, 6, 4), 0),
    ],
    ids=lambda value: value.name if isinstance(value, keras.layers.Layer) else "",
)
def test_layers_count_by_their_closed_form(layer, shape, expected):
    assert count_macs(single(layer, shape)) == expected


def test_shared_layers_and_nested_models_count_each_call():
    dense = layers.Dense(4)
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.Dense(4)])
    a = keras.Input((4,))
    model = keras.Model(a, inner(dense(dense(a))))
    keras.Model(a, dense(a))  # another model with the same layer adds nothing
    assert count_macs(model) == 4 * 16
    assert count_macs(inner) == 2 * 16


def test_peak_counts_pending_tensors_once():
    a = keras.Input((10,))
    wide = layers.Dense(30)(a)
    small = layers.Dense(5)(wide)
    assert peak_activation(keras.Model(a, small)) == 10 + 30
    # `a` is needed again at the end, so it stays alive beside `wide` and `small`.
    assert peak_activation(keras.Model(a, layers.Concatenate()([small, a]))) == 10 + 30 + 5


def test_peak_of_activations_in_place_unless_the_input_is_needed_again():
    a = keras.Input((10,))
    b = layers.Dense(10)(a)
    c = layers.ReLU()(b)
    assert peak_activation(keras.Model(a, c)) == 20
    assert peak_activation(keras.Model(a, layers.Add()([b, c]))) == 30


def test_peak_looks_inside_nested_models():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(50), layers.Dense(4)])
    a = keras.Input((4,))
    assert peak_activation(keras.Model(a, inner(a))) == 54
    # `a` stays alive through the nested model.
    assert peak_activation(keras.Model(a, layers.Add()([inner(inner(a)), a]))) == 58


def test_unusable_models_are_refused():
    class Plain(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ModelError, match="must be functional"):
        count_macs(Plain())
    open_ended = single(layers.Conv1D(2, 3, padding="same"), (None, 1))
    with pytest.raises(ModelError, match="must have fixed dimensions"):
        count_macs(open_ended)
    with pytest.raises(ModelError, match="must have fixed dimensions"):
        peak_activation(open_ended)
