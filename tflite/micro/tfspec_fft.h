/**
 * @file tfspec_fft.h
 * Real FFT and its inverse, in place, for power-of-two sizes from 32 to 4096 in float.
 *
 * A real transform of n samples is a complex one of n/2 (radix-4 passes, one radix-2 pass where
 * log2 is odd) followed by a pass that separates even and odd samples.
 *
 * Packed spectrum, n floats (what CMSIS-DSP's arm_rfft_fast_f32 uses as well):
 *
 *     [0] DC   [1] Nyquist   [2k] real part of bin k   [2k+1] imaginary part of bin k, 0 < k < n/2
 *
 * The only table is one period of a cosine, n floats. Give it as constant data, or let
 * tfspec_fft_make_cosine write it into a buffer at start-up; unused, that function and the
 * double-precision cos() it needs are dropped by the linker.
 */
#ifndef TFSPEC_FFT_H_
#define TFSPEC_FFT_H_

#include "tfspec_common.h"

TFSPEC_BEGIN_C

#define TFSPEC_FFT_MIN 32u
#define TFSPEC_FFT_MAX 4096u

/** Floats of the cosine table for transforms of `n` samples. */
#define TFSPEC_COSINE_FLOATS(n) (n)

/** A transform size and its table; may be shared and may be const. */
typedef struct {
  uint32_t n;          /**< Real samples of a transform. */
  const float *cosine; /**< cos(2 pi k / n) for k = 0 .. n-1. */
} tfspec_fft;

/** True for the sizes that this library transforms: powers of two, 32 to 4096. */
bool tfspec_fft_size_ok(uint32_t n);

/** Writes the `n` floats of the cosine table; uses double-precision cos(). */
void tfspec_fft_make_cosine(float *table, uint32_t n);

/** Checks the size and stores both arguments; `cosine` must outlive the plan. */
tfspec_status tfspec_fft_init(tfspec_fft *fft, uint32_t n, const float *cosine);

/**
 * Forward transform X[k] = sum x[j] exp(-2 pi i j k / n), without scaling.
 * @param data n real samples; replaced by the packed spectrum.
 */
void tfspec_rfft(const tfspec_fft *fft, float *data);

/**
 * Inverse of tfspec_rfft, the factor 1/n included.
 * @param data packed spectrum; replaced by n real samples.
 */
void tfspec_irfft(const tfspec_fft *fft, float *data);

TFSPEC_END_C

#endif /* TFSPEC_FFT_H_ */
