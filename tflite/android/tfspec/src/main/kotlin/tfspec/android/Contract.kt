package tfspec.android

/** Names that an export promises; `tests/deploy/test_android.py` compares them with real cards. */
object Contract {
  const val SIGNATURE = "serving_default"

  // Core of a mask separator: square root of scaled magnitudes in, mask out.
  const val MASK_INPUT = "compressed_magnitude"
  const val MASK_OUTPUT = "mask"

  // Fields of card.json.
  const val FILES = "files"
  const val FILE = "file"
  const val SIGNATURE_KEY = "signature"
  const val INPUTS = "inputs"
  const val OUTPUTS = "outputs"
  const val NAME = "name"
  const val SHAPE = "shape"
  const val DTYPE = "dtype"
  const val FLOAT32 = "float32"
  const val FRONT_END = "front_end"

  // Fields of the front end.
  const val TASK = "task"
  const val SEPARATION = "separation"
  const val OUTPUT = "output"
  const val MASK = "mask"
  const val SEGMENT_FRAMES = "segment_frames"
  const val SCALER_KIND = "scaler_kind"
  const val SCALER_MAX = "max"
  const val SCALER_AXIS = "scaler_axis"
  const val STFT = "stft"
  const val SAMPLE_RATE = "sample_rate"
  const val N_FFT = "n_fft"
  const val HOP_LENGTH = "hop_length"
  const val WIN_LENGTH = "win_length"
  const val WINDOW = "window"
  const val CENTER = "center"
  const val LABELS = "labels"

  // Test vectors: index.json.
  const val INDEX = "index.json"
  const val VECTORS = "vectors"
  const val VECTOR_INPUT = "input"
  const val VECTOR_OUTPUT = "output"
  const val FOLDER = "folder"
  const val MODEL = "model"
  const val TOLERANCE = "tolerance"
  const val ABSOLUTE = "absolute"
}
