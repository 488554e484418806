#include "tfspec_istft.h"

#include <string.h>

/* Squared windows below this share of the largest sum count as "not covered". */
static const float k_min_coverage = 1e-3f;

static inline float window_at(const tfspec_istft *istft, uint32_t i) {
  return istft->window ? istft->window[i] : 0.5f - 0.5f * istft->fft->cosine[i];
}

/* Sum of the squared windows over sample `i` of a hop: one window value per overlapping frame. */
static float coverage(const tfspec_istft *istft, uint32_t i) {
  float sum = 0.0f;
  for (; i < istft->fft->n; i += istft->hop_length) {
    sum += window_at(istft, i) * window_at(istft, i);
  }
  return sum;
}

/* Fills the table of gains; false if some sample is hardly covered by any window. */
static bool make_gain(tfspec_istft *istft) {
  float largest = 0.0f, smallest = coverage(istft, 0u);
  for (uint32_t i = 0u; i < istft->hop_length; ++i) {
    const float sum = coverage(istft, i);
    if (sum > largest) largest = sum;
    if (sum < smallest) smallest = sum;
    istft->gain[i] = 1.0f / sum;
  }
  return smallest > k_min_coverage * largest;
}

tfspec_status tfspec_istft_init(tfspec_istft *istft, const tfspec_fft *fft, const float *window,
                                uint32_t hop_length, float *memory) {
  if (istft == NULL || fft == NULL || memory == NULL) return TFSPEC_NULL_POINTER;
  if (hop_length == 0u || hop_length > fft->n) return TFSPEC_BAD_HOP;
  istft->fft = fft;
  istft->window = window;
  istft->overlap = memory;
  istft->gain = memory + fft->n;
  istft->hop_length = hop_length;
  tfspec_istft_reset(istft);
  return make_gain(istft) ? TFSPEC_OK : TFSPEC_BAD_HOP;
}

void tfspec_istft_reset(tfspec_istft *istft) {
  for (uint32_t i = 0u; i < istft->fft->n; ++i) istft->overlap[i] = 0.0f;
}

void tfspec_istft_frame(tfspec_istft *istft, float *spectrum, float *out) {
  const uint32_t n = istft->fft->n, hop = istft->hop_length;
  float *overlap = istft->overlap;
  tfspec_irfft(istft->fft, spectrum);
  for (uint32_t i = 0u; i < n; ++i) overlap[i] += window_at(istft, i) * spectrum[i];
  for (uint32_t i = 0u; i < hop; ++i) out[i] = overlap[i] * istft->gain[i];
  memmove(overlap, overlap + hop, (n - hop) * sizeof(float));
  for (uint32_t i = n - hop; i < n; ++i) overlap[i] = 0.0f;
}
