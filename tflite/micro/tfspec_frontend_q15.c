#include "tfspec_frontend_q15.h"

static const int64_t k_ln2_q30 = 744261118; /* round(2^30 ln 2) */

/* round(32768 log2(1 + i / 64)): with linear interpolation log2 is right to 5e-5. */
static const uint16_t k_log2_table[65] = {
    0, 733, 1455, 2166, 2866, 3556, 4236, 4907, 5568, 6220, 6863,
    7498, 8124, 8742, 9352, 9954, 10549, 11136, 11716, 12289, 12855, 13415,
    13968, 14514, 15055, 15589, 16117, 16639, 17156, 17667, 18173, 18673, 19168,
    19658, 20143, 20623, 21098, 21568, 22034, 22495, 22952, 23404, 23852, 24296,
    24736, 25172, 25604, 26031, 26455, 26876, 27292, 27705, 28114, 28520, 28922,
    29321, 29717, 30109, 30498, 30884, 31267, 31647, 32024, 32397, 32768,
};

/* Position of the highest set bit; value > 0. */
static int32_t highest_bit(uint64_t value) {
  int32_t position = 0;
  for (int32_t step = 32; step != 0; step /= 2) {
    if ((value >> step) != 0u) {
      value >>= step;
      position += step;
    }
  }
  return position;
}

tfspec_status tfspec_stft_q15_init(tfspec_stft_q15 *stft, const tfspec_fft_q15 *fft,
                                   uint32_t hop_length, int16_t *history) {
  if (stft == NULL || fft == NULL || history == NULL) return TFSPEC_NULL_POINTER;
  if (hop_length == 0u || hop_length > fft->n) return TFSPEC_BAD_HOP;
  stft->fft = fft;
  stft->history = history;
  stft->hop_length = hop_length;
  return tfspec_stft_q15_prime(stft, 0u);
}

tfspec_status tfspec_stft_q15_prime(tfspec_stft_q15 *stft, uint32_t zeros) {
  if (zeros >= stft->fft->n) return TFSPEC_BAD_FRAMES;
  for (uint32_t i = 0u; i < stft->fft->n; ++i) stft->history[i] = 0;
  stft->position = 0u;
  stft->missing = stft->fft->n - zeros;
  return TFSPEC_OK;
}

/* Sample i of the frame times 2^16 times the Hann window (1 - cos) / 2; fits 32 bits. */
static inline int32_t windowed(const tfspec_stft_q15 *stft, uint32_t i) {
  const int32_t weight = 32767 - stft->fft->cosine[i]; /* 0 .. 65534 */
  return stft->history[(stft->position + i) & (stft->fft->n - 1u)] * weight;
}

/* Windows the history with as many bits as the loudest sample allows, and transforms it. */
static int32_t transform(const tfspec_stft_q15 *stft, int16_t *spectrum) {
  const uint32_t n = stft->fft->n;
  uint32_t bits = 1u;
  for (uint32_t i = 0u; i < n; ++i) {
    const int32_t value = windowed(stft, i);
    bits |= (uint32_t)(value ^ (value >> 31));
  }
  /* 14 bits and a sign: rounding may carry into the 15th. */
  const int32_t excess = highest_bit(bits) + 1 - 14;
  const int32_t shift = excess > 1 ? excess : 1;
  for (uint32_t i = 0u; i < n; ++i) {
    spectrum[i] = (int16_t)((windowed(stft, i) + (1 << (shift - 1))) >> shift);
  }
  return tfspec_rfft_q15(stft->fft, spectrum, shift - 16);
}

size_t tfspec_stft_q15_push(tfspec_stft_q15 *stft, const int16_t *samples, size_t count,
                            int16_t *spectrum, int32_t *exponent, bool *ready) {
  const size_t taken = count < stft->missing ? count : stft->missing;
  for (size_t i = 0u; i < taken; ++i) {
    stft->history[stft->position] = (int16_t)(samples ? samples[i] : 0);
    stft->position = (stft->position + 1u) & (stft->fft->n - 1u);
  }
  stft->missing -= (uint32_t)taken;
  *ready = stft->missing == 0u;
  if (*ready) {
    stft->missing = stft->hop_length;
    *exponent = transform(stft, spectrum);
  }
  return taken;
}

/* Squared magnitude of a bin, at most 2^31. */
static inline uint32_t power_at(const int16_t *spectrum, uint32_t n_fft, uint32_t k) {
  const bool real = k == 0u || k == n_fft / 2u;
  const int32_t re = real ? spectrum[k == 0u ? 0u : 1u] : spectrum[2u * k];
  const int32_t im = real ? 0 : spectrum[2u * k + 1u];
  return (uint32_t)(re * re) + (uint32_t)(im * im);
}

/* Square root to the nearest integer: Newton's method from above, which four steps settle. */
static uint16_t square_root(uint32_t value) {
  if (value == 0u) return 0u;
  uint32_t root = 1u << (highest_bit(value) / 2 + 1);
  for (int step = 0; step < 5; ++step) root = (root + value / root) / 2u;
  if (root * root > value) --root;
  return (uint16_t)(value - root * root > root ? root + 1u : root);
}

void tfspec_magnitude_q15(const int16_t *spectrum, uint32_t n_fft, uint32_t n_bins, uint16_t *out) {
  /* Bin 0 is written last but one, the Nyquist bin last: they share the first two values. */
  const uint16_t dc = square_root(power_at(spectrum, n_fft, 0u));
  const uint16_t nyquist = square_root(power_at(spectrum, n_fft, n_fft / 2u));
  for (uint32_t k = 1u; k < n_bins && k < n_fft / 2u; ++k) {
    out[k] = square_root(power_at(spectrum, n_fft, k));
  }
  out[0] = dc;
  if (n_bins > n_fft / 2u) out[n_fft / 2u] = nyquist;
}

int32_t tfspec_ln_q16(uint64_t value, int32_t exponent) {
  if (value == 0u) return INT32_MIN;
  const int32_t top = highest_bit(value);
  /* Mantissa in Q30: 1.0 is bit 30, the next six bits index the table, 24 bits interpolate. */
  const uint32_t mantissa = (uint32_t)(top > 30 ? value >> (top - 30) : value << (30 - top));
  const uint32_t index = (mantissa >> 24) & 63u;
  const int64_t rest = (int64_t)(mantissa & 0xFFFFFFu);
  const int64_t low = k_log2_table[index], high = k_log2_table[index + 1u];
  const int64_t log2_q31 = (low << 16) + (((high - low) * rest) >> 8);
  const int64_t whole_q31 = ((int64_t)top + exponent) * ((int64_t)1 << 31);
  const int64_t log2_q16 = (whole_q31 + log2_q31) / 32768;
  return (int32_t)((log2_q16 * k_ln2_q30 + ((int64_t)1 << 29)) >> 30);
}

/* Sum of one band; 16-bit weights times 32-bit powers leave 16 bits for the number of bins. */
static uint64_t band_sum(const int16_t *spectrum, uint32_t n_fft, tfspec_q15_kind kind,
                         const uint16_t *weights, uint32_t start, uint32_t length) {
  uint64_t sum = 0u;
  for (uint32_t i = 0u; i < length; ++i) {
    const uint32_t power = power_at(spectrum, n_fft, start + i);
    sum += (uint64_t)(kind == TFSPEC_Q15_POWER ? power : square_root(power)) * weights[i];
  }
  return sum;
}

void tfspec_log_mel_q15(const tfspec_mel_bank_q15 *bank, tfspec_q15_kind kind,
                        const int16_t *spectrum, uint32_t n_fft, int32_t exponent,
                        int32_t floor_q16, int32_t *out) {
  const int32_t in_samples = exponent - 15; /* samples are 16-bit steps of 1/32768 */
  const int32_t unit = (kind == TFSPEC_Q15_POWER ? 2 * in_samples : in_samples) - 16;
  const uint16_t *weights = bank->weights;
  for (uint32_t b = 0u; b < bank->n_bands; ++b) {
    const uint64_t sum =
        band_sum(spectrum, n_fft, kind, weights, bank->start[b], bank->length[b]);
    weights += bank->length[b];
    const int32_t ln = sum == 0u ? floor_q16 : tfspec_ln_q16(sum, unit) + bank->log_scale_q16;
    out[b] = ln > floor_q16 ? ln : floor_q16;
  }
}

int8_t tfspec_quantize_q16(int32_t value_q16, int32_t inverse_scale_q16, int32_t zero_point) {
  const int64_t steps_q32 = (int64_t)value_q16 * inverse_scale_q16;
  const int64_t half = (int64_t)1 << 31, one = (int64_t)1 << 32;
  const int64_t rounded = (steps_q32 + (steps_q32 < 0 ? -half : half)) / one;
  const int64_t q = rounded + zero_point;
  return (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
}
