/**
 * @file tfspec_istft.h
 * Inverse short-time Fourier transform by windowed overlap-add, one hop of output per frame.
 *
 * Every output sample is divided by the sum of the squared windows that cover it, so spectra that
 * are passed through unchanged give the input back. The sum is that of a running stream: the
 * first n_fft - hop samples of a stream that was not primed fade in. Prime the analysis with
 * n_fft - hop zeros (see tfspec_stft.h) and there is no fade.
 *
 * Delay: output sample i is sample i of the primed stream, so with prime(n_fft - hop) a hop of
 * input gives at once the hop of output that lies n_fft - hop samples back.
 */
#ifndef TFSPEC_ISTFT_H_
#define TFSPEC_ISTFT_H_

#include "tfspec_fft.h"

TFSPEC_BEGIN_C

/** Floats of `memory` of an inverse transform. */
#define TFSPEC_ISTFT_FLOATS(n_fft, hop_length) ((n_fft) + (hop_length))

/** State of one output stream; initialise it with tfspec_istft_init. */
typedef struct {
  const tfspec_fft *fft;
  const float *window; /**< As given to the analysis; NULL: periodic Hann. */
  float *overlap;      /**< n_fft floats: sums of the frames that reach into the future. */
  float *gain;         /**< hop floats: 1 / (sum of squared windows). */
  uint32_t hop_length;
} tfspec_istft;

/**
 * Starts an output stream.
 * @param window the one of the analysis.
 * @param memory TFSPEC_ISTFT_FLOATS(n_fft, hop_length) floats.
 * @return TFSPEC_BAD_HOP as well where a sample would be covered by no window (hop too long).
 */
tfspec_status tfspec_istft_init(tfspec_istft *istft, const tfspec_fft *fft, const float *window,
                                uint32_t hop_length, float *memory);

/** Forgets the frames so far. */
void tfspec_istft_reset(tfspec_istft *istft);

/**
 * Adds a frame and gives the hop of samples that it completes.
 * @param spectrum packed, n_fft floats; overwritten.
 * @param out hop_length samples.
 */
void tfspec_istft_frame(tfspec_istft *istft, float *spectrum, float *out);

TFSPEC_END_C

#endif /* TFSPEC_ISTFT_H_ */
