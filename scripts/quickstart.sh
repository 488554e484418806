#!/usr/bin/env bash
# The main job on embedded data, from nothing: trains a tiny vocal separator on synthetic songs,
# exports it to int8 TFLite, separates a real song with both, scores them, writes a report.
#
#   scripts/quickstart.sh                  about 8 minutes on 2 cores, results in quickstart_out/
#   scripts/quickstart.sh --out DIR        results elsewhere; run it again to continue
#   scripts/quickstart.sh --short          fewer songs and epochs: shows that it works, not how well
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/_env.sh"

out="$ROOT/quickstart_out"
songs=32
epochs=3
while (($#)); do
  case "$1" in
    --out)
      [[ $# -ge 2 ]] || { _say "error: --out needs a folder"; exit 2; }
      out="$2"
      shift
      ;;
    --short)
      songs=12
      epochs=2
      ;;
    *)
      _say "error: unknown option $1; known are --out DIR and --short"
      exit 2
      ;;
  esac
  shift
done

prepare_environment "" requirements.txt
tfspec="$(dirname "$PYTHON")/tfspec"
run="$out/run"
# The 6-second excerpt of "The Easton Ellises - Falcon 69" that the stempeg package carries.
song="$("$PYTHON" -c 'import stempeg; print(stempeg.example_stem_path())')"
mkdir -p "$out"

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. Train on $songs synthetic songs"
"$tfspec" train separation --preset tiny --data "synth:$songs" --epochs "$epochs" \
  --cache "$out/cache" --out "$run"

say "2. Export to TFLite, verified against Keras"
"$tfspec" export "$run" --precision float32,int8

say "3. Separate a real song, with Keras and with int8 TFLite"
"$tfspec" separate "$song" --model "$run" --out "$out/keras"
"$tfspec" separate "$song" --model "$run/export/model_int8.tflite" --out "$out/int8"

say "4. Score both against the true stems"
"$tfspec" report "$run" --song "$song" --model "$run/export/model_int8.tflite" \
  --out "$out/report.html"

say "Done. Open $out/report.html in a browser; the stems are in $out/keras and $out/int8."
