/**
 * @file tfspec_frontend_q15.h
 * The front end in 16-bit integers: window, real FFT, magnitude or log-mel, int8 quantisation.
 *
 * Use it where there is no floating-point unit (Cortex-M0+, M3, M33 without FPU): an STFT frame
 * takes 6 times fewer instructions there than with emulated floats. With an FPU the float front end
 * is the faster one, by 2.4 times, and the more precise one; what remains is half the memory.
 * (README.md has the counts.)
 *
 * Spectra are block floating point: one exponent per frame, value = data * 2^exponent, in units of
 * one step of the 16-bit input. Every pass shifts by just as much as its largest value needs, so
 * quiet frames are as precise as loud ones.
 *
 * Error bounds against float64, asserted in tests/deploy/test_micro_c.py (noise at full scale and at
 * -60 dB, single steps of the converter, sines, a square wave, harmonics, impulses, DC):
 *
 *   complex spectrum, magnitude   TFSPEC_Q15_MAGNITUDE_BOUND of the frame's largest magnitude, for
 *                                 n_fft 32 .. 4096 (measured 4e-4 at 32, 7e-4 at 256, 9e-4 at
 *                                 4096), or of 1/64 of its largest sample if that is more: the
 *                                 table is too coarse for a lone impulse at the window's edge
 *   ln of a mel band              TFSPEC_Q15_LOG_MEL_BOUND nepers for bands within 40 dB of the
 *                                 frame's strongest band (measured 0.022), 0.01 within 30 dB
 *   tfspec_ln_q16                 TFSPEC_Q15_LN_BOUND nepers (measured 4e-5)
 *
 * Right shifts of negative numbers are taken to be arithmetic, as in every compiler for these
 * processors.
 */
#ifndef TFSPEC_FRONTEND_Q15_H_
#define TFSPEC_FRONTEND_Q15_H_

#include "tfspec_fft.h"

TFSPEC_BEGIN_C

#define TFSPEC_Q15_MAGNITUDE_BOUND 1.2e-3f
#define TFSPEC_Q15_LOG_MEL_BOUND 0.05f
#define TFSPEC_Q15_LN_BOUND 1e-4f

/** A transform size and its table. */
typedef struct {
  uint32_t n;
  const int16_t *cosine; /**< round(32767 cos(2 pi k / n)) for k = 0 .. n-1. */
} tfspec_fft_q15;

/** State of one stream of 16-bit samples; framing as in tfspec_stft.h. */
typedef struct {
  const tfspec_fft_q15 *fft;
  int16_t *history; /**< n_fft samples. */
  uint32_t hop_length, position, missing;
} tfspec_stft_q15;

/** A sparse filter bank: real weight = weights * 2^-16 * exp(log_scale_q16 / 65536). */
typedef struct {
  uint32_t n_bands;
  const uint16_t *start;
  const uint16_t *length;
  const uint16_t *weights; /**< The largest weight is best scaled to 65535. */
  int32_t log_scale_q16;
} tfspec_mel_bank_q15;

/** What to sum in a mel band. */
typedef enum { TFSPEC_Q15_MAGNITUDE = 0, TFSPEC_Q15_POWER = 1 } tfspec_q15_kind;

/** Writes the n 16-bit values of the cosine table; uses double-precision cos(). */
void tfspec_fft_q15_make_cosine(int16_t *table, uint32_t n);

/** As tfspec_fft_init. */
tfspec_status tfspec_fft_q15_init(tfspec_fft_q15 *fft, uint32_t n, const int16_t *cosine);

/**
 * Forward transform, packed as in tfspec_fft.h.
 * @param data n values in units of 2^exponent; replaced by the spectrum.
 * @return the new exponent.
 */
int32_t tfspec_rfft_q15(const tfspec_fft_q15 *fft, int16_t *data, int32_t exponent);

/** Starts a stream with the periodic Hann window; `history` holds n_fft samples. */
tfspec_status tfspec_stft_q15_init(tfspec_stft_q15 *stft, const tfspec_fft_q15 *fft,
                                   uint32_t hop_length, int16_t *history);

/** Forgets all samples and starts again after `zeros` zero samples (below n_fft). */
tfspec_status tfspec_stft_q15_prime(tfspec_stft_q15 *stft, uint32_t zeros);

/**
 * Takes samples up to the one that completes a frame; see tfspec_stft_push.
 * @param spectrum n_fft values; gets the packed spectrum if a frame is complete.
 * @param exponent gets its exponent.
 */
size_t tfspec_stft_q15_push(tfspec_stft_q15 *stft, const int16_t *samples, size_t count,
                            int16_t *spectrum, int32_t *exponent, bool *ready);

/**
 * Magnitudes of the first `n_bins` bins, in units of 2^exponent of the spectrum.
 * @param n_bins up to n_fft / 2 + 1.
 * @param out `n_bins` values; may be `spectrum` itself.
 */
void tfspec_magnitude_q15(const int16_t *spectrum, uint32_t n_fft, uint32_t n_bins, uint16_t *out);

/** Natural logarithm of value * 2^exponent in Q16 nepers; INT32_MIN for 0. */
int32_t tfspec_ln_q16(uint64_t value, int32_t exponent);

/**
 * ln(max(mel band, floor)) of samples in [-1, 1): the exponent and the 1/32768 of 16-bit samples
 * are accounted for, so values compare with the float front end's LOG_FLOOR.
 * @param spectrum packed; `exponent` is its exponent.
 * @param floor_q16 ln of the floor, Q16.
 * @param out n_bands values, Q16 nepers.
 */
void tfspec_log_mel_q15(const tfspec_mel_bank_q15 *bank, tfspec_q15_kind kind,
                        const int16_t *spectrum, uint32_t n_fft, int32_t exponent,
                        int32_t floor_q16, int32_t *out);

/**
 * int8 = round(value / scale) + zero_point, clamped, from Q16.
 * @param inverse_scale_q16 round(65536 / scale).
 */
int8_t tfspec_quantize_q16(int32_t value_q16, int32_t inverse_scale_q16, int32_t zero_point);

TFSPEC_END_C

#endif /* TFSPEC_FRONTEND_Q15_H_ */
