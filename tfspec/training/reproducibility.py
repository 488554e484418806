"""Seeds, and what they can and cannot make equal.

What tfspec guarantees: with `set_seeds(seed, deterministic=True)` at the start of the process, a
run that was interrupted (Ctrl-C, SIGTERM, SIGKILL) and resumed ends with the same bits in weights
and history as one that was not, and a run repeated gives the same bits, provided all of

- the same machine and the same TensorFlow, Keras, NumPy and tfspec versions;
- `epoch_data(epoch)` and the validation data give the same batches in the same order each time:
  stateless random operations seeded from (seed, epoch, example), shuffles with a seed, no
  `deterministic=False`. TensorFlow mixes its global seed into every `shuffle(seed=...)`, so
  `set_seeds` must have been called with the same seed, even where the checkpoint restores weights;
- random layers own a `keras.random.SeedGenerator`, as Keras' own do: its state is a model variable
  and part of the checkpoint. Numbers from Keras' global generator (`seed=None` in a bare
  `keras.random` call) or from Python's and NumPy's generators in the training step are not.

What cannot be equal bit for bit, and why:

- other CPUs or GPUs, or other numbers of threads without `deterministic`: floating-point addition
  is not associative, and kernels cut their sums by vector width, cache size and thread count;
- GPUs without `deterministic`: atomic additions arrive in any order, and cuDNN picks kernels by
  timing them;
- other library versions: fused kernels and XLA order operations anew in each release;
- other batch splits, such as another number of GPUs: sums are grouped by replica;
- the `seconds` column of `history.csv`.

Price of `deterministic`: TensorFlow runs some kernels slower and parallel `tf.data` maps with
stateful random operations one by one; the data pipelines of tfspec have none of these.
"""

from __future__ import annotations

from tfspec.errors import ConfigError


def set_seeds(seed: int, deterministic: bool = True) -> None:
    """Seeds Python, NumPy, TensorFlow and Keras; call it before the model is built.

    Args:
        seed: 0 to 2**32 - 1, the range that NumPy accepts.
        deterministic: also make TensorFlow refuse or replace operations whose result may vary from
            run to run. TensorFlow cannot switch this off again within the process.

    Raises:
        ConfigError: the seed is out of range.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise ConfigError(f"seed: must be an integer from 0 to 4294967295; received {seed!r}")
    import keras

    keras.utils.set_random_seed(seed)
    if deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
