package tfspec.android

import kotlin.math.PI
import kotlin.math.cos
import kotlin.math.sin

/** Spectrum of one frame of one channel: real and imaginary parts of bins 0 .. nFft / 2. */
class Spectrum(val re: FloatArray, val im: FloatArray)

/** Complex FFT in place, for lengths that are powers of two. */
class Fft(private val length: Int) {
  private val cosines = DoubleArray(length / 2) { cos(2 * PI * it / length) }
  private val sines = DoubleArray(length / 2) { sin(2 * PI * it / length) }

  init {
    require(length >= 2 && length and (length - 1) == 0) {
      "the transform's length must be a power of two. Received: $length"
    }
  }

  /** exp(-j ...) forwards, exp(+j ...) when [inverse]; without any factor. */
  fun transform(re: DoubleArray, im: DoubleArray, inverse: Boolean = false) {
    reorder(re, im)
    val sign = if (inverse) 1.0 else -1.0
    var half = 1
    while (half < length) {
      val stride = length / (2 * half)
      for (start in 0 until length step 2 * half) {
        for (k in 0 until half) {
          val c = cosines[k * stride]
          val s = sign * sines[k * stride]
          val low = start + k
          val high = low + half
          val x = re[high] * c - im[high] * s
          val y = re[high] * s + im[high] * c
          re[high] = re[low] - x
          im[high] = im[low] - y
          re[low] += x
          im[low] += y
        }
      }
      half *= 2
    }
  }

  private fun reorder(re: DoubleArray, im: DoubleArray) {
    var j = 0
    for (i in 1 until length) {
      var bit = length shr 1
      while (j and bit != 0) {
        j = j xor bit
        bit = bit shr 1
      }
      j = j or bit
      if (i < j) {
        re[i] = re[j].also { re[j] = re[i] }
        im[i] = im[j].also { im[j] = im[i] }
      }
    }
  }
}

/** Samples in order: appended at the end, taken from the front. */
class SampleQueue {
  private var values = FloatArray(0)

  val size: Int
    get() = values.size

  fun append(block: FloatArray) {
    values += block
  }

  fun peek(count: Int): FloatArray = values.copyOf(count)

  fun drop(count: Int) {
    values = values.copyOfRange(count, values.size)
  }

  fun take(count: Int): FloatArray = peek(count).also { drop(count) }
}

/** Short-time transform and its inverse, [factor] times as long as the model's own. */
class Stft(config: StftConfig, factor: Int) {
  val nFft = config.nFft * factor
  val hop = config.hopLength * factor
  val bins = nFft / 2 + 1
  val padding = if (config.center) nFft / 2 else 0
  private val fft = Fft(nFft)
  val window: FloatArray = window(config.window, config.windowLength * factor, nFft)

  /** Spectrum of the [nFft] samples of one frame. */
  fun forward(frame: FloatArray): Spectrum {
    val re = DoubleArray(nFft) { (frame[it] * window[it]).toDouble() }
    val im = DoubleArray(nFft)
    fft.transform(re, im)
    return Spectrum(FloatArray(bins) { re[it].toFloat() }, FloatArray(bins) { im[it].toFloat() })
  }

  /** Samples of one frame, windowed for overlap-add. */
  fun inverse(spectrum: Spectrum): FloatArray {
    val re = DoubleArray(nFft)
    val im = DoubleArray(nFft)
    for (bin in 0 until bins) {
      re[bin] = spectrum.re[bin].toDouble()
      // A real signal has real ends of the spectrum.
      im[bin] = if (bin == 0 || bin == nFft / 2) 0.0 else spectrum.im[bin].toDouble()
      if (bin in 1 until nFft / 2) {
        re[nFft - bin] = re[bin]
        im[nFft - bin] = -im[bin]
      }
    }
    fft.transform(re, im, inverse = true)
    return FloatArray(nFft) { (re[it] / nFft).toFloat() * window[it] }
  }

  private companion object {
    /** Periodic window, centred in zeros when shorter than the frame. */
    fun window(name: String, length: Int, nFft: Int): FloatArray {
      val weights =
        when (name) {
          "hann" -> doubleArrayOf(0.5, -0.5)
          "hamming" -> doubleArrayOf(0.54, -0.46)
          "blackman" -> doubleArrayOf(0.42, -0.5, 0.08)
          "boxcar" -> doubleArrayOf(1.0)
          else -> throw IllegalArgumentException("unknown window $name")
        }
      val window = FloatArray(nFft)
      for (k in 0 until length) {
        val terms = weights.mapIndexed { order, weight -> weight * cos(2 * PI * order * k / length) }
        window[(nFft - length) / 2 + k] = terms.sum().toFloat()
      }
      return window
    }
  }
}

/** Cuts one channel into frames as samples arrive. */
class Analysis(private val stft: Stft) {
  private val pending = SampleQueue().apply { append(FloatArray(stft.padding)) }

  fun process(block: FloatArray, last: Boolean): List<Spectrum> {
    pending.append(block)
    if (last) pending.append(FloatArray(stft.padding))
    val frames = ArrayList<Spectrum>()
    while (pending.size >= stft.nFft) {
      frames += stft.forward(pending.peek(stft.nFft))
      pending.drop(stft.hop)
    }
    return frames
  }
}

/** Adds the frames of one channel up and divides by the sum of the squared windows. */
class Synthesis(private val stft: Stft) {
  private var samples = FloatArray(stft.nFft - stft.hop)
  private var energy = DoubleArray(stft.nFft - stft.hop)
  private var skip = stft.padding

  /** The samples that no later frame reaches. */
  fun process(frames: List<Spectrum>, last: Boolean): FloatArray {
    val overlap = stft.nFft - stft.hop
    val sum = samples.copyOf(overlap + frames.size * stft.hop)
    val weight = energy.copyOf(sum.size)
    frames.forEachIndexed { index, frame ->
      val start = index * stft.hop
      stft.inverse(frame).forEachIndexed { k, value ->
        sum[start + k] += value
        weight[start + k] += stft.window[k].toDouble() * stft.window[k]
      }
    }
    val done = if (last) sum.size else frames.size * stft.hop
    samples = sum.copyOfRange(done, sum.size)
    energy = weight.copyOfRange(done, sum.size)
    val from = minOf(skip, done)
    skip -= from
    return FloatArray(done - from) {
      val divisor = weight[from + it]
      if (divisor > Float.MIN_VALUE) (sum[from + it] / divisor).toFloat() else sum[from + it]
    }
  }
}
