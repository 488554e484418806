/**
 * @file tfspec_separator.h
 * Real-time source separation: a hop of samples in, a hop of the separated source out.
 *
 * Each call analyses one hop, and every `step_frames` calls writes the network's input, calls the
 * network and keeps its mask for the next `step_frames` frames. The masks used are those of the
 * columns that end `lookahead_frames` before the newest one, so that the network saw that much of
 * the future:
 *
 *     step_frames = n_frames, lookahead_frames = 0    least work: each frame is seen once
 *     step_frames = n_frames / 2, lookahead_frames = n_frames / 4    twice the work, and context
 *                                                     on both sides of every frame used
 *
 * Delay, constant: TFSPEC_SEPARATOR_DELAY samples.
 */
#ifndef TFSPEC_SEPARATOR_H_
#define TFSPEC_SEPARATOR_H_

#include "tfspec_istft.h"
#include "tfspec_segment.h"

TFSPEC_BEGIN_C

/** Floats of `memory` of a separator. */
#define TFSPEC_SEPARATOR_FLOATS(n_fft, hop_length, n_frames)            \
  (TFSPEC_STFT_FLOATS(n_fft) + TFSPEC_ISTFT_FLOATS(n_fft, hop_length) + \
   TFSPEC_SEGMENT_FLOATS(n_fft, n_frames) + (n_fft))

/** Samples by which the output lags behind the input, both counted per hop given and returned. */
#define TFSPEC_SEPARATOR_DELAY(n_fft, hop_length, step_frames, lookahead_frames) \
  ((n_fft) - (hop_length) + ((step_frames) + (lookahead_frames)-1) * (hop_length))

/** Runs the network on the input tensor that was just written; 0 for success. */
typedef int (*tfspec_invoke)(void *context);

/** What a separator is made of; pointers must outlive it. */
typedef struct {
  uint32_t n_fft;
  uint32_t hop_length;
  uint32_t n_bins;           /**< Frequency axis of the network. */
  uint32_t n_frames;         /**< Time axis of the network. */
  uint32_t step_frames;      /**< Frames per call of the network. */
  uint32_t lookahead_frames; /**< Newest frames whose masks are not used yet. */
  const float *cosine;       /**< n_fft floats, see tfspec_fft.h. */
  const float *window;       /**< n_fft floats, or NULL for the periodic Hann window. */
  tfspec_band_policy above;  /**< Bins that the network does not see. */
  int8_t *input;             /**< The network's input tensor, (n_bins, n_frames). */
  tfspec_quantization input_quantization;
  tfspec_mask mask; /**< The network's output tensor. */
  tfspec_invoke invoke;
  void *context; /**< Handed to `invoke`. */
} tfspec_separator_config;

/** State of a separator. */
typedef struct {
  tfspec_separator_config config;
  tfspec_fft fft;
  tfspec_stft stft;
  tfspec_istft istft;
  tfspec_segment segment;
  float *spectrum;    /**< n_fft floats of work space. */
  uint32_t in_step;   /**< Frames since the network ran. */
  bool has_mask;      /**< Whether it ever ran. */
} tfspec_separator;

/**
 * Checks the description and starts with silence.
 * @param memory TFSPEC_SEPARATOR_FLOATS(n_fft, hop_length, n_frames) floats.
 */
tfspec_status tfspec_separator_init(tfspec_separator *separator,
                                    const tfspec_separator_config *config, float *memory);

/**
 * Takes hop_length samples of the mixture and gives as many of the separated source, delayed.
 * @param in samples / 32768.
 * @param out may be `in`. Silence until the network ran for the first time.
 * @return TFSPEC_INVOKE_FAILED, with silence in `out`, if the network reported an error.
 */
tfspec_status tfspec_separator_process(tfspec_separator *separator, const float *in, float *out);

TFSPEC_END_C

#endif /* TFSPEC_SEPARATOR_H_ */
