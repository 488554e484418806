# Sourced by the scripts beside it: one virtual environment with the project in it.
#
#   source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"
#   prepare_environment dev,jax requirements.txt
#   "$PYTHON" -m pytest
#
# VIRTUAL_ENV_DIR   folder of the environment (default: .venv in the project's root)
# TFSPEC_PYTHON     interpreter that makes it (default: the first Python >= 3.10 of the PATH)

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

_say() { printf '%s\n' "$*" >&2; }

# Installs Debian packages, or says how to and fails. Arguments: reason, package...
_install_debian() {
  local reason="$1" log
  shift
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    _say "error: Debian package $* is missing ($reason); install it, then run this script again:"
    _say "    sudo apt-get update && sudo apt-get install $*"
    return 1
  fi
  _say "installing Debian package $* ($reason)"
  log="$(mktemp)"
  if ! { apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } \
    </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    _say "error: apt-get could not install $* ($reason)"
    return 1
  fi
  rm -f "$log"
}

_is_python310() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1
}

# Prints the interpreter that makes the environment.
_find_python() {
  local candidate candidates=(python3 python3.13 python3.12 python3.11 python3.10)
  if [[ -n "${TFSPEC_PYTHON:-}" ]]; then
    candidates=("$TFSPEC_PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    if _is_python310 "$candidate"; then
      printf '%s\n' "$candidate"
      return
    fi
  done
  return 1
}

# Makes the virtual environment in $1 unless a working one is there.
_make_venv() {
  local base
  if _is_python310 "$1/bin/python"; then
    return
  fi
  # What follows empties the folder, so it must be an environment or nothing.
  if [[ -n "$(ls -A "$1" 2>/dev/null)" && ! -f "$1/pyvenv.cfg" ]]; then
    _say "error: VIRTUAL_ENV_DIR=$1 is a folder with other files in it; name a new one"
    return 1
  fi
  if ! base="$(_find_python)"; then
    if [[ -n "${TFSPEC_PYTHON:-}" ]]; then
      _say "error: TFSPEC_PYTHON=$TFSPEC_PYTHON is not a Python >= 3.10"
      return 1
    fi
    _install_debian "Python >= 3.10" python3 python3-venv || return 1
    if ! base="$(_find_python)"; then
      _say "error: this system has no Python >= 3.10; install one and name it in TFSPEC_PYTHON"
      return 1
    fi
  fi
  # Debian keeps the part of venv that brings pip in a package of its own.
  "$base" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    _install_debian "makes virtual environments" python3-venv || return 1
  _say "making a virtual environment in $1"
  "$base" -m venv --clear "$1"
}

_pip() {
  "$PYTHON" -m pip install --no-input --disable-pip-version-check -qq "$@" </dev/null
}

# Changes whenever an installation would: what is asked for, by which interpreter, for which checkout.
_fingerprint() {
  {
    printf '%s\n' "$ROOT" "$@"
    "$PYTHON" --version
    cat "$ROOT/setup.cfg" "$ROOT/requirements.txt" "$ROOT/pyproject.toml"
  } | "$PYTHON" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

# Makes the environment ready and sets PYTHON to its interpreter; a second call takes a moment.
# Arguments: extras of setup.cfg separated by commas; a constraints file (optional).
prepare_environment() {
  local extras="${1:-}" constraints="${2:-}" folder stamp wanted started="$SECONDS"
  folder="${VIRTUAL_ENV_DIR:-$ROOT/.venv}"
  _make_venv "$folder" || return 1
  folder="$(cd "$folder" && pwd)"
  PYTHON="$folder/bin/python"
  command -v ffmpeg >/dev/null ||
    _install_debian "reads M4A and multi-track MP4" ffmpeg || return 1
  # One stamp for each set of extras: scripts that ask for different ones do not undo each other.
  stamp="$folder/.tfspec-installed-${extras//,/-}"
  wanted="$(_fingerprint "$extras" "$constraints")" || return 1
  if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
    return
  fi
  _say "installing tfspec${extras:+ with extras $extras} into $folder (a few minutes)"
  (
    # The pip that Python 3.10 brings tries versions for ten minutes where a later one needs none.
    cd "$ROOT" &&
      _pip "pip>=25" &&
      _pip ${constraints:+-c "$constraints"} -e ".${extras:+[$extras]}"
  ) || return 1
  # The soundfile package carries libsndfile on common platforms only.
  "$PYTHON" -c 'import soundfile' >/dev/null 2>&1 ||
    _install_debian "reads and writes audio files" libsndfile1 || return 1
  printf '%s\n' "$wanted" >"$stamp"
  _say "installed in $((SECONDS - started)) s"
}

# One thread per library: the parallelism is that of processes, not of both at once.
limit_threads() {
  export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
  export TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1
}
