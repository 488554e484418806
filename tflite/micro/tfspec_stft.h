/**
 * @file tfspec_stft.h
 * Short-time Fourier transform of samples that arrive in pieces of any size.
 *
 * Frame i covers the samples i * hop .. i * hop + n_fft - 1 of the stream, counted with the zeros
 * that it was primed with:
 *
 *     prime(0)             no padding (librosa center=False)
 *     prime(n_fft / 2)     librosa and tfspec center=True; push n_fft / 2 zeros at the end as well
 *     prime(n_fft - hop)   every push of `hop` samples gives exactly one frame: what to use for
 *                          separation, because every sample is then covered by all its windows
 *
 * RAM: n_fft floats of history beside the struct, and n_fft floats where the spectrum goes.
 */
#ifndef TFSPEC_STFT_H_
#define TFSPEC_STFT_H_

#include "tfspec_fft.h"

TFSPEC_BEGIN_C

/** Floats of `history` for frames of `n_fft` samples. */
#define TFSPEC_STFT_FLOATS(n_fft) (n_fft)

/** State of one stream; initialise it with tfspec_stft_init. */
typedef struct {
  const tfspec_fft *fft;
  const float *window;
  float *history;      /**< The last n_fft samples, a ring. */
  uint32_t hop_length; /**< Samples between frames. */
  uint32_t position;   /**< Where the next sample goes: the oldest one. */
  uint32_t missing;    /**< Samples until the next frame is complete. */
} tfspec_stft;

/**
 * Starts a stream.
 * @param window n_fft floats (a shorter window is centred in zeros), or NULL for the periodic
 *     Hann window, which is made from the cosine table and takes no memory of its own.
 * @param hop_length 1 .. n_fft samples.
 * @param history TFSPEC_STFT_FLOATS(n_fft) floats.
 */
tfspec_status tfspec_stft_init(tfspec_stft *stft, const tfspec_fft *fft, const float *window,
                               uint32_t hop_length, float *history);

/** Forgets all samples and starts again after `zeros` zero samples (below n_fft). */
tfspec_status tfspec_stft_prime(tfspec_stft *stft, uint32_t zeros);

/**
 * Takes samples up to the one that completes a frame.
 * @param samples `count` samples; NULL stands for zeros.
 * @param spectrum n_fft floats; gets the packed spectrum (see tfspec_fft.h) if a frame is complete.
 * @param ready whether it is.
 * @return samples taken; call again with the rest until all are.
 */
size_t tfspec_stft_push(tfspec_stft *stft, const float *samples, size_t count, float *spectrum,
                        bool *ready);

/** The same for 16-bit samples, which are divided by 32768. */
size_t tfspec_stft_push_int16(tfspec_stft *stft, const int16_t *samples, size_t count,
                              float *spectrum, bool *ready);

TFSPEC_END_C

#endif /* TFSPEC_STFT_H_ */
