#include "tfspec_stft.h"

tfspec_status tfspec_stft_init(tfspec_stft *stft, const tfspec_fft *fft, const float *window,
                               uint32_t hop_length, float *history) {
  if (stft == NULL || fft == NULL || history == NULL) return TFSPEC_NULL_POINTER;
  if (hop_length == 0u || hop_length > fft->n) return TFSPEC_BAD_HOP;
  stft->fft = fft;
  stft->window = window;
  stft->history = history;
  stft->hop_length = hop_length;
  return tfspec_stft_prime(stft, 0u);
}

tfspec_status tfspec_stft_prime(tfspec_stft *stft, uint32_t zeros) {
  if (zeros >= stft->fft->n) return TFSPEC_BAD_FRAMES;
  for (uint32_t i = 0u; i < stft->fft->n; ++i) stft->history[i] = 0.0f;
  stft->position = 0u;
  stft->missing = stft->fft->n - zeros;
  return TFSPEC_OK;
}

/* How many of `count` samples the current frame still takes. */
static size_t samples_to_take(const tfspec_stft *stft, size_t count) {
  return count < stft->missing ? count : stft->missing;
}

static inline void append(tfspec_stft *stft, float sample) {
  stft->history[stft->position] = sample;
  stft->position = (stft->position + 1u) & (stft->fft->n - 1u);
}

/* Windows the history, oldest sample first, and transforms it. */
static void transform(const tfspec_stft *stft, float *spectrum) {
  const uint32_t n = stft->fft->n;
  const float *cosine = stft->fft->cosine;
  for (uint32_t i = 0u; i < n; ++i) {
    const float weight = stft->window ? stft->window[i] : 0.5f - 0.5f * cosine[i];
    spectrum[i] = weight * stft->history[(stft->position + i) & (n - 1u)];
  }
  tfspec_rfft(stft->fft, spectrum);
}

/* Counts `taken` samples; true, with the spectrum written, if they completed a frame. */
static bool finish(tfspec_stft *stft, size_t taken, float *spectrum) {
  stft->missing -= (uint32_t)taken;
  if (stft->missing != 0u) return false;
  stft->missing = stft->hop_length;
  transform(stft, spectrum);
  return true;
}

size_t tfspec_stft_push(tfspec_stft *stft, const float *samples, size_t count, float *spectrum,
                        bool *ready) {
  const size_t taken = samples_to_take(stft, count);
  for (size_t i = 0u; i < taken; ++i) append(stft, samples ? samples[i] : 0.0f);
  *ready = finish(stft, taken, spectrum);
  return taken;
}

size_t tfspec_stft_push_int16(tfspec_stft *stft, const int16_t *samples, size_t count,
                              float *spectrum, bool *ready) {
  const size_t taken = samples_to_take(stft, count);
  for (size_t i = 0u; i < taken; ++i) {
    append(stft, samples ? (float)samples[i] * (1.0f / 32768.0f) : 0.0f);
  }
  *ready = finish(stft, taken, spectrum);
  return taken;
}
