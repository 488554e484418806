#!/usr/bin/env bash
# Runs the tests, in an environment that it makes when there is none.
#
#   scripts/test.sh                            all tests, slow ones included
#   scripts/test.sh tests/signal -k stft -n 0  arguments go to pytest; paths are of the project's root
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

prepare_environment dev,jax,micro requirements.txt
# The C front end is compiled for Cortex-M and run on emulated boards; elsewhere those tests skip.
if ! command -v arm-none-eabi-gcc >/dev/null || ! command -v qemu-system-arm >/dev/null; then
  _install_debian "tests of the microcontroller code" \
    gcc libc6-dev gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm ||
    _say "going on without; the tests of the microcontroller code will be skipped"
fi
# The Android classes are compiled and run on a Java virtual machine; elsewhere those tests skip.
if ! command -v java >/dev/null; then
  _install_debian "tests of the Android classes" default-jre-headless ||
    _say "going on without; the tests of the Android classes will be skipped"
fi
limit_threads
# Two workers: each holds a TensorFlow of its own, so more gain little and need memory.
# Files stay whole, since some share a trained model among their tests.
cd "$ROOT"
exec "$PYTHON" -m pytest -n "${TFSPEC_TEST_WORKERS:-2}" --dist loadfile --durations=15 "$@"
