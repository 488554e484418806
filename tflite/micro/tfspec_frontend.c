#include "tfspec_frontend.h"

#include <math.h>

void tfspec_power(const float *spectrum, uint32_t n_fft, uint32_t n_bins, float *out) {
  const float dc = spectrum[0], nyquist = spectrum[1];
  /* Bin k is read from 2k and 2k + 1 and written to k, so writing never overtakes reading. */
  for (uint32_t k = 1u; k < n_bins && k < n_fft / 2u; ++k) {
    const float re = spectrum[2u * k], im = spectrum[2u * k + 1u];
    out[k] = re * re + im * im;
  }
  out[0] = dc * dc;
  if (n_bins > n_fft / 2u) out[n_fft / 2u] = nyquist * nyquist;
}

void tfspec_magnitude(const float *spectrum, uint32_t n_fft, uint32_t n_bins, float *out) {
  tfspec_power(spectrum, n_fft, n_bins, out);
  for (uint32_t k = 0u; k < n_bins; ++k) out[k] = sqrtf(out[k]);
}

tfspec_status tfspec_mel_check(const tfspec_mel_bank *bank, uint32_t n_bins) {
  if (bank->start == NULL || bank->length == NULL || bank->weights == NULL) {
    return TFSPEC_NULL_POINTER;
  }
  if (bank->n_bands == 0u) return TFSPEC_BAD_MEL_BANK;
  for (uint32_t b = 0u; b < bank->n_bands; ++b) {
    if ((uint32_t)bank->start[b] + bank->length[b] > n_bins) return TFSPEC_BAD_MEL_BANK;
  }
  return TFSPEC_OK;
}

void tfspec_mel_apply(const tfspec_mel_bank *bank, const float *bins, float *out) {
  const float *weight = bank->weights;
  for (uint32_t b = 0u; b < bank->n_bands; ++b) {
    const float *bin = bins + bank->start[b];
    float sum = 0.0f;
    for (uint32_t i = bank->length[b]; i != 0u; --i) sum += *weight++ * *bin++;
    out[b] = sum;
  }
}

void tfspec_compress(tfspec_compression compression, float constant, float *values, size_t count) {
  for (size_t i = 0u; i < count; ++i) {
    const float x = values[i];
    switch (compression) {
      case TFSPEC_COMPRESS_SQRT: values[i] = sqrtf(x); break;
      case TFSPEC_COMPRESS_LOG_OFFSET: values[i] = logf(x + constant); break;
      case TFSPEC_COMPRESS_LOG_FLOOR: values[i] = logf(x > constant ? x : constant); break;
      case TFSPEC_COMPRESS_LOG1P: values[i] = log1pf(constant * x); break;
      case TFSPEC_COMPRESS_NONE:
      default: break;
    }
  }
}

tfspec_status tfspec_features_check(const tfspec_features *features) {
  if (features == NULL) return TFSPEC_NULL_POINTER;
  if (!tfspec_fft_size_ok(features->n_fft)) return TFSPEC_BAD_FFT_SIZE;
  if (features->n_bins == 0u || features->n_bins > features->n_fft / 2u + 1u) {
    return TFSPEC_BAD_BINS;
  }
  return features->mel ? tfspec_mel_check(features->mel, features->n_bins) : TFSPEC_OK;
}

uint32_t tfspec_features_size(const tfspec_features *features) {
  return features->mel ? features->mel->n_bands : features->n_bins;
}

void tfspec_features_compute(const tfspec_features *features, float *spectrum, float *out) {
  float *bins = features->mel ? spectrum : out;
  if (features->kind == TFSPEC_POWER) {
    tfspec_power(spectrum, features->n_fft, features->n_bins, bins);
  } else {
    tfspec_magnitude(spectrum, features->n_fft, features->n_bins, bins);
  }
  if (features->mel) tfspec_mel_apply(features->mel, bins, out);
  tfspec_compress(features->compression, features->constant, out, tfspec_features_size(features));
}

tfspec_status tfspec_quantization_check(tfspec_quantization quantization) {
  const bool ok = quantization.scale > 0.0f && quantization.scale < INFINITY &&
                  quantization.zero_point >= -128 && quantization.zero_point <= 127;
  return ok ? TFSPEC_OK : TFSPEC_BAD_QUANTIZATION;
}

int8_t tfspec_quantize(float value, tfspec_quantization quantization) {
  /* Divided, not multiplied by the reciprocal: TFLite divides, and halves must agree. */
  const float steps = value / quantization.scale;
  if (!(steps > -256.0f)) return -128; /* NaN as well */
  if (steps > 256.0f) return 127;
  int32_t q = (int32_t)steps;
  const float rest = steps - (float)q;
  if (rest >= 0.5f) ++q;
  if (rest <= -0.5f) --q;
  q += quantization.zero_point;
  return (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
}

void tfspec_quantize_array(const float *values, size_t count, tfspec_quantization quantization,
                           int8_t *out, size_t stride) {
  for (size_t i = 0u; i < count; ++i) out[i * stride] = tfspec_quantize(values[i], quantization);
}

float tfspec_dequantize(int8_t value, tfspec_quantization quantization) {
  return quantization.scale * (float)(value - quantization.zero_point);
}
