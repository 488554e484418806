// Runs the Android classes on a desktop JVM: `separate CARD IN OUT RATE CHANNELS BLOCK` with the
// identity as network, `classify CARD IN OUT HOP BLOCK` with the mean and the peak as scores. Files
// hold raw little-endian float32, channels interleaved.
package tfspec.android

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

private fun read(path: String): FloatArray {
  val bytes = ByteBuffer.wrap(File(path).readBytes()).order(ByteOrder.LITTLE_ENDIAN)
  return FloatArray(bytes.remaining() / 4).also { bytes.asFloatBuffer().get(it) }
}

private fun write(path: String, values: FloatArray) {
  val bytes = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
  bytes.asFloatBuffer().put(values)
  File(path).writeBytes(bytes.array())
}

private fun separate(card: Card, samples: FloatArray, rate: Int, channels: Int, step: Int): FloatArray {
  val separator = Separator(card, { it }, rate, channels)
  val length = samples.size / channels
  val out = ArrayList<Float>()
  fun keep(stems: Stems) {
    for (i in 0 until stems.size) {
      for (c in 0 until channels) {
        out += stems.vocals[c][i]
        out += stems.accompaniment[c][i]
      }
    }
  }
  for (start in 0 until length step step) {
    val end = minOf(start + step, length)
    val block = List(channels) { c -> FloatArray(end - start) { samples[(start + it) * channels + c] } }
    keep(separator.process(block))
    check(out.size / (2 * channels) >= end - separator.latency) { "lags behind more than it says" }
  }
  keep(separator.finish())
  return out.toFloatArray()
}

private fun classify(card: Card, samples: FloatArray, hop: Int, step: Int): FloatArray {
  val classifier = Classifier(card, { floatArrayOf(it.average().toFloat(), it.max()) }, hop)
  val blocks = samples.toList().chunked(step).map { it.toFloatArray() }
  val scores = blocks.flatMap { classifier.process(it) }
  return scores.flatMap { listOf(it.seconds.toFloat(), it.values[0], it.values[1]) }.toFloatArray()
}

fun main(arguments: Array<String>) {
  val (mode, path, source, out) = arguments
  val card = Card.parse(File(path).readText(), "float32")
  val numbers = arguments.drop(4).map { it.toInt() }
  val samples = read(source)
  val result =
    if (mode == "separate") separate(card, samples, numbers[0], numbers[1], numbers[2])
    else classify(card, samples, numbers[0], numbers[1])
  write(out, result)
}
