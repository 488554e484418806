package tfspec.android

import org.json.JSONArray
import org.json.JSONObject

/** One end of a model: its name in the signature and its shape, the batch axis included. */
class End(val name: String, val shape: List<Int>) {
  val size: Int
    get() = shape.fold(1) { product, length -> product * length }
}

/** The transform of a spectrogram model; lengths in samples. */
class StftConfig(
  val sampleRate: Int,
  val nFft: Int,
  val hopLength: Int,
  val windowLength: Int,
  val window: String,
  val center: Boolean,
)

/**
 * What an app needs of `card.json`: one file of the export and how its input is made.
 *
 * @property file name of the .tflite.
 * @property frontEnd description of the input, as exported.
 */
class Card
private constructor(
  val file: String,
  val signature: String,
  val input: End,
  val output: End,
  val frontEnd: JSONObject,
) {
  val task: String = frontEnd.optString(Contract.TASK)

  /** Names of the classes in the order of the scores; empty when the export names none. */
  val labels: List<String> =
    frontEnd.optJSONArray(Contract.LABELS)?.let { names ->
      List(names.length()) { names.getString(it) }
    } ?: emptyList()

  /** The transform, of models that take spectrograms. */
  val stft: StftConfig
    get() {
      val values = frontEnd.getJSONObject(Contract.STFT)
      val nFft = values.getInt(Contract.N_FFT)
      return StftConfig(
        sampleRate = values.getInt(Contract.SAMPLE_RATE),
        nFft = nFft,
        hopLength = values.getInt(Contract.HOP_LENGTH),
        windowLength =
          if (values.isNull(Contract.WIN_LENGTH)) nFft else values.getInt(Contract.WIN_LENGTH),
        window = values.optString(Contract.WINDOW, "hann"),
        center = values.optBoolean(Contract.CENTER, true),
      )
    }

  companion object {
    /**
     * Reads a card.
     *
     * @param text content of `card.json`.
     * @param precision of the file to use: `float32`, `float16`, `dynamic_range` or `int8`.
     * @throws IllegalArgumentException the export has no such file, or its ends are integers.
     */
    fun parse(text: String, precision: String): Card {
      val json = JSONObject(text)
      val files = json.getJSONObject(Contract.FILES)
      require(files.has(precision)) { "the export has no $precision file: ${files.keys().asSequence().toList()}" }
      val entry = files.getJSONObject(precision)
      return Card(
        file = entry.getString(Contract.FILE),
        signature = entry.getString(Contract.SIGNATURE_KEY),
        input = end(entry.getJSONArray(Contract.INPUTS)),
        output = end(entry.getJSONArray(Contract.OUTPUTS)),
        frontEnd = json.getJSONObject(Contract.FRONT_END),
      )
    }

    private fun end(ends: JSONArray): End {
      require(ends.length() == 1) { "the model must have one input and one output" }
      val json = ends.getJSONObject(0)
      require(json.getString(Contract.DTYPE) == Contract.FLOAT32) {
        "use a file with float ends, not ${json.getString(Contract.DTYPE)}: int8 has them, full_int8 has not"
      }
      val shape = json.getJSONArray(Contract.SHAPE)
      return End(json.getString(Contract.NAME), List(shape.length()) { shape.getInt(it) })
    }
  }
}
