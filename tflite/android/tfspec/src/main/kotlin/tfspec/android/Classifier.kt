package tfspec.android

/** Scores of the window that begins [seconds] after the start, in the order of the labels. */
class Scores(val seconds: Double, val values: FloatArray) {
  /** Number of the class with the highest score. */
  val best: Int
    get() = values.indices.maxByOrNull { values[it] } ?: -1
}

/**
 * Classifies a stream of sound with a waveform model: samples in, scores out.
 *
 * @param card of a waveform classifier: `[1, samples]` in, `[1, classes]` out.
 * @param network its file, e.g. a [LiteRtNetwork].
 * @param hopSamples from one window to the next; a whole window by default.
 * @throws IllegalArgumentException a card of another kind.
 */
class Classifier(card: Card, private val network: Network, hopSamples: Int? = null) {
  val labels: List<String> = card.labels

  /** Hz of the samples that [process] takes. */
  val sampleRate: Int =
    card.frontEnd.optJSONObject(Contract.STFT)?.getInt(Contract.SAMPLE_RATE)
      ?: card.frontEnd.getInt(Contract.SAMPLE_RATE)
  private val length = card.input.size
  private val hop = hopSamples ?: length
  private val pending = SampleQueue()
  private var position = 0L

  init {
    require(card.input.shape.size == 2 && card.input.shape[0] == 1) {
      "the model must take a waveform [1, samples]. Received: ${card.input.shape}"
    }
    require(card.output.shape.size == 2) { "the model must give scores [1, classes]" }
    require(labels.isEmpty() || labels.size == card.output.size) {
      "the card names ${labels.size} classes of ${card.output.size}"
    }
    require(hop in 1..length) { "hopSamples must be in 1..$length. Received: $hop" }
  }

  /** Adds mono samples in [-1, 1]; returns the scores of the windows that are complete. */
  fun process(samples: FloatArray): List<Scores> {
    pending.append(samples)
    val results = ArrayList<Scores>()
    while (pending.size >= length) {
      results += Scores(position.toDouble() / sampleRate, network.run(pending.peek(length)))
      pending.drop(hop)
      position += hop
    }
    return results
  }
}
