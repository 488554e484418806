"""`fit`: equals plain Keras, resumes bit for bit, stops on NaN, keeps the best epoch."""

from __future__ import annotations

import csv
import json
import math
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tfspec.errors import TrainingError
from tfspec.training.run import RunFolder, load_model_folder
from tfspec.training.state import SavedState


def table(folder: Path) -> list[dict[str, str]]:
    """`history.csv` as text, without the time, which no two runs share."""
    with (folder / "history.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def assert_same_result(tiny: ModuleType, one: tuple, other: tuple) -> None:
    (model, folder), (other_model, other_folder) = one, other
    assert table(folder) == table(other_folder)
    for a, b in zip(tiny.state(model), tiny.state(other_model), strict=True):
        np.testing.assert_array_equal(a, b)
    best, other_best = (load_model_folder(f)[0].get_weights() for f in (folder, other_folder))
    for a, b in zip(best, other_best, strict=True):
        np.testing.assert_array_equal(a, b)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, hook: str, calls: int) -> None:
    """Sends SIGINT to this process, as Ctrl-C does, just before the given call of a hook."""
    from tfspec.training import fit as module

    original: Callable[..., None] = getattr(module._Training, hook)
    count = 0

    def wrapped(self: Any, *args: Any, **options: Any) -> None:
        nonlocal count
        count += 1
        if count == calls:
            signal.raise_signal(signal.SIGINT)
        original(self, *args, **options)

    monkeypatch.setattr(module._Training, hook, wrapped)


@pytest.fixture(scope="module")
def reference(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """An uninterrupted run."""
    from tfspec.training.fit import fit

    folder = tmp_path_factory.mktemp("reference")
    tiny.keras.utils.set_random_seed(3)
    model = tiny.tiny_model()
    fit(
        model,
        run=RunFolder.create(folder, **tiny.RECORD),
        epoch_data=tiny.epoch_data,
        validation=tiny.validation_data(),
        epochs=tiny.EPOCHS,
        verbose=False,
    )
    return model, folder


def test_fit_equals_plain_keras(tiny, reference):
    model, folder = reference
    tiny.keras.utils.set_random_seed(3)
    plain = tiny.tiny_model()
    rows = []
    known = tiny.tf.data.experimental.assert_cardinality(tiny.STEPS)
    for epoch in range(tiny.EPOCHS):
        # Of a data set of unknown size, plain Keras counts a step too many.
        data = tiny.epoch_data(epoch).apply(known)
        history = plain.fit(data, validation_data=tiny.validation_data(), verbose=0).history
        rows.append({name: values[0] for name, values in history.items()})
    for a, b in zip(tiny.state(model), tiny.state(plain), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations) == tiny.EPOCHS * tiny.STEPS
    stored = table(folder)
    assert list(stored[0]) == ["epoch", "loss", "val_loss", "mse", "val_mse", "learning_rate"]
    assert [row["epoch"] for row in stored] == ["1", "2", "3"]
    for row, expected in zip(stored, rows, strict=True):
        assert {name: float(row[name]) for name in expected} == expected
        assert float(row["learning_rate"]) == pytest.approx(0.01, rel=1e-6)  # float32


@pytest.mark.parametrize(
    ("hook", "calls"),
    [
        ("on_train_batch_end", 13),
        ("on_train_batch_end", 16),  # the last batch of an epoch: only its validation is left
        ("on_test_batch_end", 3),
        ("on_epoch_end", 2),
    ],
)
def test_ctrl_c_and_resuming_change_nothing(
    tiny, train, reference, tmp_path, monkeypatch, hook, calls
):
    from tfspec.training.fit import TrainingInterrupted

    with monkeypatch.context() as patch:
        interrupt_after(patch, hook, calls)
        with pytest.raises(TrainingInterrupted, match="run the same command again") as caught:
            train(tmp_path)
    assert (caught.value.epoch, caught.value.step) == {
        ("on_train_batch_end", 13): (1, 5),
        ("on_train_batch_end", 16): (1, 8),
        ("on_test_batch_end", 3): (1, 8),
        ("on_epoch_end", 2): (2, 0),
    }[hook, calls]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # Another start of the weights, as in a process without seeds: the checkpoint must win.
    tiny.keras.utils.set_random_seed(1234)
    model = tiny.tiny_model()
    tiny.tf.random.set_seed(3)  # part of every tf.data shuffle
    model, history = train(tmp_path, model)
    assert history.resumed
    assert not history.already_finished
    assert_same_result(tiny, (model, tmp_path), reference)


def test_a_metric_of_several_values_resumes_within_an_epoch(tiny, train, tmp_path, monkeypatch):
    from tfspec.training.fit import TrainingInterrupted

    class Extremes(tiny.keras.metrics.MeanSquaredError):
        def result(self):
            mean = super().result()
            return {"mean": mean, "root": mean**0.5}

    def model():
        tiny.keras.utils.set_random_seed(tiny.RECORD["seed"])
        return tiny.tiny_model(metrics=[Extremes(name="extremes")])

    _, expected = train(tmp_path / "at_once", model())
    # After the last batch of an epoch, its metrics come from the checkpoint alone.
    for calls in (13, 3):
        with monkeypatch.context() as patch:
            interrupt_after(patch, "on_train_batch_end", calls)
            with pytest.raises(TrainingInterrupted):
                train(tmp_path / "in_parts", model())
    _, history = train(tmp_path / "in_parts", model())
    for ours, theirs in zip(history.rows, expected.rows, strict=True):
        assert {"mean", "root", "val_mean"} <= set(ours)
        assert [ours[name] for name in ("loss", "mean", "root")] == [
            theirs[name] for name in ("loss", "mean", "root")
        ]


def test_second_ctrl_c_leaves_at_once():
    from tfspec.training.interrupt import catch_stop

    heard: list[str] = []
    with pytest.raises(KeyboardInterrupt), catch_stop(heard.append) as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)
    assert len(heard) == 1
    before = signal.getsignal(signal.SIGTERM)
    with catch_stop() as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.requested
    assert signal.getsignal(signal.SIGTERM) == before


def test_interrupted_again_and_again(tiny, train, reference, tmp_path, monkeypatch):
    """Seven batches at a time add up to one training."""
    from tfspec.training.fit import TrainingInterrupted

    interruptions = 0
    while True:
        with monkeypatch.context() as patch:
            interrupt_after(patch, "on_train_batch_end", 7)
            try:
                model, _ = train(tmp_path)
                break
            except TrainingInterrupted:
                interruptions += 1
    assert interruptions == 3  # of 24 batches, after 7, 14 and 21
    assert_same_result(tiny, (model, tmp_path), reference)


def test_finished_run_returns_at_once_and_more_epochs_continue(tiny, train, reference, tmp_path):
    train(tmp_path, epochs=2)
    model, history = train(tmp_path, epochs=2)
    assert history.already_finished
    assert history.epoch == [0, 1]
    model, history = train(tmp_path)
    assert history.epoch == [0, 1, 2]
    assert history.resumed
    assert_same_result(tiny, (model, tmp_path), reference)


def test_best_epoch_is_kept(tiny, train, tmp_path):
    """A learning rate that grows a thousandfold makes the last epochs worse than the first."""

    class Schedule(tiny.keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step: Any) -> Any:
            return tiny.keras.ops.where(step < 8, 0.01, 10.0)

        def get_config(self) -> dict[str, Any]:
            return {}

    model = tiny.tiny_model(optimizer=tiny.keras.optimizers.Adam(Schedule()))
    _, history = train(tmp_path, model)
    losses = history.history["val_loss"]
    assert history.best_epoch == 1 + int(np.argmin(losses)) == 1
    assert history.best_value == min(losses)
    stored = json.loads((tmp_path / "metrics.json").read_text())["training"]
    assert stored["best_epoch"] == 1
    assert stored["best"]["val_loss"] == min(losses)
    assert stored["last"]["val_loss"] == losses[-1]
    best, _ = load_model_folder(tmp_path)
    best.compile(loss="mae")
    # Evaluated in the same batches by the same operations.
    assert best.evaluate(tiny.validation_data(), verbose=0) == pytest.approx(min(losses), rel=1e-6)
    rates = history.history["learning_rate"]
    assert rates == pytest.approx([10.0, 10.0, 10.0])


def test_metrics_json_keeps_what_others_wrote(train, tmp_path):
    train(tmp_path, epochs=1)
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"evaluation": {"sdr": 5.0}}))
    train(tmp_path, epochs=1)
    assert set(json.loads(path.read_text())) == {"evaluation", "training"}


def test_tensorboard_logs_hold_each_epoch(reference):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, folder = reference
    events = EventAccumulator(str(folder / "logs" / "validation"))
    events.Reload()
    values = events.Tensors("epoch/loss")
    assert [event.step for event in values] == [1, 2, 3]
    logged = [np.frombuffer(e.tensor_proto.tensor_content, np.float32)[0] for e in values]
    expected = [float(row["val_loss"]) for row in table(folder)]
    np.testing.assert_array_equal(logged, np.float32(expected))


def test_max_mode_monitor_and_training_without_validation(tiny, train, tmp_path):
    _, history = train(tmp_path / "a", mode="max", monitor="val_mse", epochs=2)
    assert history.best_value == max(history.history["val_mse"])
    _, history = train(tmp_path / "b", validation=None, epochs=2)
    assert history.monitor == "loss"
    assert history.best_value == min(history.history["loss"])
    with pytest.raises(TrainingError, match="chose its best epoch by 'max val_mse'"):
        train(tmp_path / "a")


def test_endless_data_is_cut_to_steps_per_epoch(tiny, train, tmp_path, monkeypatch):
    from tfspec.training.fit import TrainingInterrupted

    options = {
        "epoch_data": lambda e: tiny.epoch_data(e).repeat(),
        "steps_per_epoch": 5,
        "epochs": 2,
    }
    model, _ = train(tmp_path / "a", **options)
    assert int(model.optimizer.iterations) == 5 * 2
    with monkeypatch.context() as patch:
        interrupt_after(patch, "on_train_batch_end", 7)
        with pytest.raises(TrainingInterrupted):
            train(tmp_path / "b", **options)
    resumed, _ = train(tmp_path / "b", **options)
    assert_same_result(tiny, (model, tmp_path / "a"), (resumed, tmp_path / "b"))


def poisoned(tiny: ModuleType, epoch: int, bad: tuple[int, int]) -> Any:
    """The epoch's data with one NaN in batch `bad[1]` of epoch `bad[0]`."""
    x, y = tiny.arrays(epoch)
    if epoch == bad[0]:
        x[bad[1] * tiny.BATCH + 2, 3] = np.nan
    return tiny.tf.data.Dataset.from_tensor_slices((x, y)).batch(tiny.BATCH)


def test_nan_stops_at_the_batch_and_names_its_files(tiny, train, tmp_path):
    def describe(epoch: int, step: int) -> list[str]:
        return [f"song_{epoch}_{step}_{n}.wav" for n in range(10)]

    with pytest.raises(TrainingError, match=r"epoch 2, step 4: the loss became nan") as caught:
        train(
            tmp_path,
            epoch_data=lambda epoch: poisoned(tiny, epoch, (1, 3)),
            describe_batch=describe,
            checkpoint_seconds=0,
        )
    message = str(caught.value)
    assert "song_1_3_0.wav, song_1_3_1.wav" in message
    assert message.count(".wav") == 8
    assert "and 2 more" in message
    assert "\n" not in message
    # The last good checkpoint is the batch before, and the best model the epoch before.
    saved = SavedState(tmp_path / "checkpoints" / "last.npz")
    assert (saved.position.epoch, saved.position.step) == (1, 3)
    assert len(table(tmp_path)) == 1
    model = load_model_folder(tmp_path)[0]
    assert all(np.isfinite(w).all() for w in model.get_weights())
    # Mended data: the same run goes on.
    _, history = train(tmp_path, epoch_data=lambda epoch: poisoned(tiny, epoch, (99, 0)))
    assert history.epoch == [0, 1, 2]
    assert np.isfinite(history.history["loss"]).all()


def test_nan_is_numbered_right_after_resuming(tiny, train, tmp_path, monkeypatch):
    from tfspec.training.fit import TrainingInterrupted

    options = {"epoch_data": lambda epoch: poisoned(tiny, epoch, (0, 6))}
    with monkeypatch.context() as patch:
        interrupt_after(patch, "on_train_batch_end", 4)
        with pytest.raises(TrainingInterrupted):
            train(tmp_path, **options)
    with pytest.raises(TrainingError, match="epoch 1, step 7: the loss became nan"):
        train(tmp_path, describe_batch=lambda epoch, step: [f"{epoch}/{step}"], **options)


@pytest.mark.parametrize("checkpoint_seconds", [0.0, math.inf])
def test_a_step_that_ruins_the_weights_is_not_saved(tiny, train, tmp_path, checkpoint_seconds):
    """sqrt(0) has a finite value and an infinite gradient: the loss shows it one step later."""

    def loss(y_true: Any, y_pred: Any) -> Any:
        zero = tiny.keras.ops.sum(y_pred * 0.0)
        wrong = tiny.keras.ops.where(y_true[0, 0] > 100.0, tiny.keras.ops.sqrt(zero), 0.0)
        return tiny.keras.ops.mean(tiny.keras.ops.abs(y_true - y_pred)) + wrong

    def data(epoch: int) -> Any:
        x, y = tiny.arrays(epoch)
        y[-tiny.BATCH, 0] += 200.0  # the last batch, so that no later loss shows it
        return tiny.tf.data.Dataset.from_tensor_slices((x, y)).batch(tiny.BATCH)

    def always_nan(y_true: Any, y_pred: Any) -> Any:
        return loss(y_true, y_pred)

    model = tiny.tiny_model(loss=always_nan)
    with pytest.raises(TrainingError, match=r"epoch 1, step 8: weight .* became NaN"):
        train(tmp_path, model, epoch_data=data, checkpoint_seconds=checkpoint_seconds)
    assert not (tmp_path / "model.keras").exists()
    saved = SavedState(tmp_path / "checkpoints" / "last.npz")
    assert saved.position.step == (7 if checkpoint_seconds == 0 else 0)


def test_epochs_neither_retrace_nor_cost_much(tiny, train, tmp_path):
    """One trace for all epochs, and less than 100 ms of overhead for each."""
    traces = []

    def loss(y_true: Any, y_pred: Any) -> Any:
        traces.append(1)  # runs while tracing only
        return tiny.keras.ops.mean(tiny.keras.ops.abs(y_true - y_pred))

    model = tiny.tiny_model(loss=loss)
    train(tmp_path, model, epochs=1)
    first = len(traces)
    batch = tiny.tf.data.Dataset.from_tensor_slices(tiny.arrays(0, 4)).batch(4)
    # Processor time, because other processes on the machine stretch the wall clock.
    start = time.process_time()
    train(tmp_path, model, epochs=21, epoch_data=lambda epoch: batch)
    ours = time.process_time() - start
    # Resuming calls the loss once eagerly; the other data set has the same element type.
    assert len(traces) <= first + 1
    start = time.process_time()
    for _ in range(20):
        model.fit(batch, validation_data=tiny.validation_data(), verbose=0)
    plain = time.process_time() - start
    # Typically 20 ms, with best model, checkpoint, table and logs of every epoch.
    assert (ours - plain) / 20 < 0.1, f"{(ours - plain) / 20 * 1e3:.0f} ms per epoch"


def test_mixed_precision_and_unbuilt_models_resume(tiny, train, tmp_path, monkeypatch):
    from tfspec.training.fit import TrainingInterrupted

    def build() -> Any:
        policy = tiny.keras.DTypePolicy("mixed_float16")
        layers = [
            tiny.keras.layers.Dense(8, dtype=policy),
            tiny.keras.layers.Dropout(0.2, dtype=policy),
            tiny.keras.layers.Dense(2, dtype="bfloat16"),
        ]
        model = tiny.keras.Sequential(layers)
        scaled = tiny.keras.optimizers.LossScaleOptimizer(tiny.keras.optimizers.Adam(0.01))
        model.compile(scaled, "mae", metrics=["mse"])
        return model

    tiny.keras.utils.set_random_seed(5)
    whole, _ = train(tmp_path / "a", build())
    tiny.keras.utils.set_random_seed(5)
    with monkeypatch.context() as patch:
        interrupt_after(patch, "on_train_batch_end", 12)
        with pytest.raises(TrainingInterrupted):
            train(tmp_path / "b", build())
    resumed, _ = train(tmp_path / "b", build())
    assert table(tmp_path / "a") == table(tmp_path / "b")
    for a, b in zip(tiny.state(whole), tiny.state(resumed), strict=True):
        assert a.tobytes() == b.tobytes()


def test_averaged_weights_resume(tiny, train, tmp_path):
    """`use_ema` replaces the weights after every epoch; the checkpoint must hold the new ones."""

    def build() -> Any:
        tiny.keras.utils.set_random_seed(5)
        return tiny.tiny_model(
            optimizer=tiny.keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
        )

    whole, _ = train(tmp_path / "a", build(), epochs=2)
    train(tmp_path / "b", build(), epochs=1)
    resumed, _ = train(tmp_path / "b", build(), epochs=2)
    assert_same_result(tiny, (whole, tmp_path / "a"), (resumed, tmp_path / "b"))
