/**
 * @file tfspec_frontend.h
 * From a packed spectrum to a network's input: magnitude or power, mel bands, compression,
 * quantisation. Each step is a function over arrays; tfspec_features runs them in order.
 */
#ifndef TFSPEC_FRONTEND_H_
#define TFSPEC_FRONTEND_H_

#include "tfspec_stft.h"

TFSPEC_BEGIN_C

/** What is taken of each complex bin. */
typedef enum { TFSPEC_MAGNITUDE = 0, TFSPEC_POWER = 1 } tfspec_spectrum_kind;

/** How values are compressed; `c` is the constant given with it. */
typedef enum {
  TFSPEC_COMPRESS_NONE = 0,
  TFSPEC_COMPRESS_SQRT = 1,       /**< sqrt(x) */
  TFSPEC_COMPRESS_LOG_OFFSET = 2, /**< ln(x + c), c > 0 */
  TFSPEC_COMPRESS_LOG_FLOOR = 3,  /**< ln(max(x, c)), c > 0 */
  TFSPEC_COMPRESS_LOG1P = 4       /**< ln(1 + c x), e.g. c = 1000 */
} tfspec_compression;

/** A sparse filter bank: band b is the sum of weights times bins start[b] .. + length[b] - 1. */
typedef struct {
  uint32_t n_bands;
  const uint16_t *start;  /**< First bin of each band. */
  const uint16_t *length; /**< Weights of each band; may be 0. */
  const float *weights;   /**< All bands' weights, one after the other. */
} tfspec_mel_bank;

/** real = scale * (q - zero_point), as in the TFLite file. */
typedef struct {
  float scale;
  int32_t zero_point;
} tfspec_quantization;

/** Everything between a spectrum and a frame of features; constant after start-up. */
typedef struct {
  uint32_t n_fft;
  uint32_t n_bins; /**< n_fft / 2 + 1, or n_fft / 2 without the Nyquist bin. */
  tfspec_spectrum_kind kind;
  const tfspec_mel_bank *mel; /**< NULL: no bands. */
  tfspec_compression compression;
  float constant; /**< `c` of the compression. */
} tfspec_features;

/**
 * Magnitudes of the first `n_bins` bins of a packed spectrum.
 * @param n_bins up to n_fft / 2 + 1.
 * @param out `n_bins` floats; may be `spectrum` itself.
 */
void tfspec_magnitude(const float *spectrum, uint32_t n_fft, uint32_t n_bins, float *out);

/** Squared magnitudes; as tfspec_magnitude. */
void tfspec_power(const float *spectrum, uint32_t n_fft, uint32_t n_bins, float *out);

/** TFSPEC_BAD_MEL_BANK unless the bank has bands, and all within `n_bins`. */
tfspec_status tfspec_mel_check(const tfspec_mel_bank *bank, uint32_t n_bins);

/** Applies a filter bank; `out` gets n_bands floats and must not overlap `bins`. */
void tfspec_mel_apply(const tfspec_mel_bank *bank, const float *bins, float *out);

/** Compresses `count` values in place. */
void tfspec_compress(tfspec_compression compression, float constant, float *values, size_t count);

/** Checks the sizes of a feature description. */
tfspec_status tfspec_features_check(const tfspec_features *features);

/** Values of a feature frame: bands, or bins without a filter bank. */
uint32_t tfspec_features_size(const tfspec_features *features);

/**
 * Computes one frame of features.
 * @param spectrum n_fft floats; overwritten.
 * @param out tfspec_features_size floats; must not overlap `spectrum`.
 */
void tfspec_features_compute(const tfspec_features *features, float *spectrum, float *out);

/** TFSPEC_BAD_QUANTIZATION unless scale > 0 and the zero point is an int8. */
tfspec_status tfspec_quantization_check(tfspec_quantization quantization);

/** Nearest int8, halves away from zero as TFLite does, clamped; NaN gives -128. */
int8_t tfspec_quantize(float value, tfspec_quantization quantization);

/**
 * Quantises an array, value i to out[i * stride].
 * With stride = frames it fills one column of a (frequency, time) input tensor.
 */
void tfspec_quantize_array(const float *values, size_t count, tfspec_quantization quantization,
                           int8_t *out, size_t stride);

/** The real value that an int8 stands for. */
float tfspec_dequantize(int8_t value, tfspec_quantization quantization);

TFSPEC_END_C

#endif /* TFSPEC_FRONTEND_H_ */
