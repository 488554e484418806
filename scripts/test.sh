#!/usr/bin/env bash
# Runs the tests, in an environment that it makes when there is none.
#
#   scripts/test.sh                            all tests, slow ones included
#   scripts/test.sh tests/signal -k stft -n 0  arguments go to pytest; paths are of the project's root
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

prepare_environment dev,jax requirements.txt
limit_threads
# Two workers: each holds a TensorFlow of its own, so more gain little and need memory.
# Files stay whole, since some share a trained model among their tests.
cd "$ROOT"
exec "$PYTHON" -m pytest -n "${TFSPEC_TEST_WORKERS:-2}" --dist loadfile --durations=15 "$@"
