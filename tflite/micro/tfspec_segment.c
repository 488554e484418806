#include "tfspec_segment.h"

#include <float.h>
#include <math.h>

tfspec_status tfspec_segment_init(tfspec_segment *segment, uint32_t n_fft, uint32_t n_bins,
                                  uint32_t n_frames, float *memory) {
  if (segment == NULL || memory == NULL) return TFSPEC_NULL_POINTER;
  if (!tfspec_fft_size_ok(n_fft)) return TFSPEC_BAD_FFT_SIZE;
  if (n_bins == 0u || n_bins > n_fft / 2u + 1u) return TFSPEC_BAD_BINS;
  if (n_frames == 0u) return TFSPEC_BAD_FRAMES;
  segment->n_fft = n_fft;
  segment->n_bins = n_bins;
  segment->n_frames = n_frames;
  segment->spectra = memory;
  segment->peaks = memory + (size_t)n_frames * n_fft;
  tfspec_segment_reset(segment);
  return TFSPEC_OK;
}

void tfspec_segment_reset(tfspec_segment *segment) {
  const size_t n = (size_t)segment->n_frames * segment->n_fft;
  for (size_t i = 0u; i < n; ++i) segment->spectra[i] = 0.0f;
  for (uint32_t t = 0u; t < segment->n_frames; ++t) segment->peaks[t] = 0.0f;
  segment->next = 0u;
}

/* Slot of the ring that holds a column. */
static uint32_t slot_of(const tfspec_segment *segment, uint32_t column) {
  const uint32_t slot = segment->next + column;
  return slot < segment->n_frames ? slot : slot - segment->n_frames;
}

static inline float power_at(const float *spectrum, uint32_t n_fft, uint32_t k) {
  if (k == 0u) return spectrum[0] * spectrum[0];
  if (k == n_fft / 2u) return spectrum[1] * spectrum[1];
  return spectrum[2u * k] * spectrum[2u * k] + spectrum[2u * k + 1u] * spectrum[2u * k + 1u];
}

float *tfspec_segment_slot(tfspec_segment *segment) {
  return segment->spectra + (size_t)segment->next * segment->n_fft;
}

void tfspec_segment_push(tfspec_segment *segment) {
  const float *spectrum = tfspec_segment_slot(segment);
  float peak = 0.0f;
  for (uint32_t k = 0u; k < segment->n_bins; ++k) {
    const float power = power_at(spectrum, segment->n_fft, k);
    if (power > peak) peak = power;
  }
  segment->peaks[segment->next] = peak;
  segment->next = slot_of(segment, 1u);
}

const float *tfspec_segment_column(const tfspec_segment *segment, uint32_t column) {
  return segment->spectra + (size_t)slot_of(segment, column) * segment->n_fft;
}

/* Largest power of the segment; 1 if it is silent. */
static float peak_power(const tfspec_segment *segment) {
  float peak = 0.0f;
  for (uint32_t t = 0u; t < segment->n_frames; ++t) {
    if (segment->peaks[t] > peak) peak = segment->peaks[t];
  }
  return peak < FLT_MIN ? 1.0f : peak;
}

float tfspec_segment_level(const tfspec_segment *segment) { return sqrtf(peak_power(segment)); }

/* sqrt(magnitude / level), from powers. */
static inline float compress(float power, float peak) { return sqrtf(sqrtf(power / peak)); }

void tfspec_segment_input(const tfspec_segment *segment, float *input) {
  const float peak = peak_power(segment);
  for (uint32_t t = 0u; t < segment->n_frames; ++t) {
    const float *spectrum = tfspec_segment_column(segment, t);
    for (uint32_t k = 0u; k < segment->n_bins; ++k) {
      input[(size_t)k * segment->n_frames + t] =
          compress(power_at(spectrum, segment->n_fft, k), peak);
    }
  }
}

void tfspec_segment_input_int8(const tfspec_segment *segment, tfspec_quantization quantization,
                               int8_t *input) {
  const float peak = peak_power(segment);
  for (uint32_t t = 0u; t < segment->n_frames; ++t) {
    const float *spectrum = tfspec_segment_column(segment, t);
    for (uint32_t k = 0u; k < segment->n_bins; ++k) {
      input[(size_t)k * segment->n_frames + t] =
          tfspec_quantize(compress(power_at(spectrum, segment->n_fft, k), peak), quantization);
    }
  }
}

/* Mask of bin `k` in a column; the policy decides above the network's bins. */
static float mask_at(const tfspec_segment *segment, const tfspec_mask *mask, uint32_t k,
                     uint32_t column, tfspec_band_policy policy) {
  if (k >= segment->n_bins) {
    if (policy != TFSPEC_ABOVE_EXTEND) return policy == TFSPEC_ABOVE_ZERO ? 0.0f : 1.0f;
    k = segment->n_bins - 1u;
  }
  const size_t i = ((size_t)k * segment->n_frames + column) * mask->n_channels + mask->channel;
  return mask->values ? mask->values[i] : tfspec_dequantize(mask->quantized[i], mask->quantization);
}

void tfspec_segment_apply(const tfspec_segment *segment, uint32_t column, const tfspec_mask *mask,
                          uint32_t mask_column, tfspec_band_policy policy, float *spectrum) {
  const float *mixture = tfspec_segment_column(segment, column);
  const uint32_t half = segment->n_fft / 2u;
  spectrum[0] = mixture[0] * mask_at(segment, mask, 0u, mask_column, policy);
  spectrum[1] = mixture[1] * mask_at(segment, mask, half, mask_column, policy);
  for (uint32_t k = 1u; k < half; ++k) {
    const float gain = mask_at(segment, mask, k, mask_column, policy);
    spectrum[2u * k] = mixture[2u * k] * gain;
    spectrum[2u * k + 1u] = mixture[2u * k + 1u] * gain;
  }
}
