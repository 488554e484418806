#!/usr/bin/env python3
"""Convert a model for a microcontroller: integers only, run in TensorFlow Lite Micro, C sources.

python tflite/convert_micro.py runs/micro --target cortex-m7 --out micro_m7
python tflite/convert_micro.py model.keras --calibration segments.npy --target esp32-s3 --out m
"""

from converting import run

if __name__ == "__main__":
    run("tflm", "cortex-m7", __doc__)
