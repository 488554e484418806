#include "tfspec_fft.h"

#include <math.h>

/* A complex number; arrays are stored as pairs of floats. */
typedef struct {
  float re, im;
} cplx;

static inline cplx load(const float *z, uint32_t i) {
  cplx value = {z[2u * i], z[2u * i + 1u]};
  return value;
}

static inline void store(float *z, uint32_t i, float re, float im) {
  z[2u * i] = re;
  z[2u * i + 1u] = im;
}

/* exp(-2 pi i k / n): minus the sine is the cosine a quarter of a period later. k < 3n/4. */
static inline cplx twiddle(const tfspec_fft *fft, uint32_t k) {
  cplx w = {fft->cosine[k], fft->cosine[k + fft->n / 4u]};
  return w;
}

static inline cplx multiply(cplx a, cplx b) {
  cplx product = {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
  return product;
}

/* Moves element i to the position with the bits of i reversed, for m elements. */
static void reverse_bits(float *z, uint32_t m) {
  for (uint32_t i = 1u, j = 0u; i < m; ++i) {
    uint32_t bit = m >> 1;
    for (; (j & bit) != 0u; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      cplx a = load(z, i), b = load(z, j);
      store(z, i, b.re, b.im);
      store(z, j, a.re, a.im);
    }
  }
}

/* Joins neighbouring one-point transforms to two-point ones. */
static void radix2_pass(float *z, uint32_t m) {
  for (uint32_t i = 0u; i < m; i += 2u) {
    cplx a = load(z, i), b = load(z, i + 1u);
    store(z, i, a.re + b.re, a.im + b.im);
    store(z, i + 1u, a.re - b.re, a.im - b.im);
  }
}

/* Four-point transform of values that are already rotated, written `span` elements apart. */
static inline void radix4(float *z, uint32_t i, uint32_t span, cplx x0, cplx x1, cplx x2, cplx x3) {
  cplx s02 = {x0.re + x2.re, x0.im + x2.im}, d02 = {x0.re - x2.re, x0.im - x2.im};
  cplx s13 = {x1.re + x3.re, x1.im + x3.im}, d13 = {x1.re - x3.re, x1.im - x3.im};
  store(z, i, s02.re + s13.re, s02.im + s13.im);
  store(z, i + span, d02.re + d13.im, d02.im - d13.re);
  store(z, i + 2u * span, s02.re - s13.re, s02.im - s13.im);
  store(z, i + 3u * span, d02.re - d13.im, d02.im + d13.re);
}

/*
 * Joins four transforms of `span` points each, throughout the array. Bits are reversed, not
 * base-4 digits, so the second quarter holds the samples 2 mod 4 and the third those 1 mod 4.
 */
static void radix4_pass(const tfspec_fft *fft, float *z, uint32_t m, uint32_t span) {
  const uint32_t step = fft->n / (4u * span);
  for (uint32_t i = 0u; i < m; i += 4u * span) { /* no rotation for k = 0 */
    radix4(z, i, span, load(z, i), load(z, i + 2u * span), load(z, i + span),
           load(z, i + 3u * span));
  }
  for (uint32_t k = 1u; k < span; ++k) {
    const cplx w1 = twiddle(fft, k * step), w2 = twiddle(fft, 2u * k * step);
    const cplx w3 = twiddle(fft, 3u * k * step);
    for (uint32_t i = k; i < m; i += 4u * span) {
      radix4(z, i, span, load(z, i), multiply(w1, load(z, i + 2u * span)),
             multiply(w2, load(z, i + span)), multiply(w3, load(z, i + 3u * span)));
    }
  }
}

/* Complex forward transform of n/2 points, in place. */
static void complex_fft(const tfspec_fft *fft, float *z) {
  const uint32_t m = fft->n / 2u;
  uint32_t span = 1u, log2_m = 0u;
  while ((m >> log2_m) > 1u) ++log2_m;
  reverse_bits(z, m);
  if ((log2_m & 1u) != 0u) {
    radix2_pass(z, m);
    span = 2u;
  }
  for (; span < m; span *= 4u) radix4_pass(fft, z, m, span);
}

bool tfspec_fft_size_ok(uint32_t n) {
  return n >= TFSPEC_FFT_MIN && n <= TFSPEC_FFT_MAX && (n & (n - 1u)) == 0u;
}

void tfspec_fft_make_cosine(float *table, uint32_t n) {
  const double pi = 3.14159265358979323846;
  for (uint32_t k = 0u; k < n; ++k) table[k] = (float)cos(2.0 * pi * (double)k / (double)n);
}

tfspec_status tfspec_fft_init(tfspec_fft *fft, uint32_t n, const float *cosine) {
  if (fft == NULL || cosine == NULL) return TFSPEC_NULL_POINTER;
  if (!tfspec_fft_size_ok(n)) return TFSPEC_BAD_FFT_SIZE;
  fft->n = n;
  fft->cosine = cosine;
  return TFSPEC_OK;
}

/*
 * The complex transform Z of z[j] = x[2j] + i x[2j+1] holds the transforms E and O of the even and
 * odd samples: E = (Z[k] + conj Z[m-k]) / 2, O = (Z[k] - conj Z[m-k]) / 2i, X[k] = E + w^k O and
 * X[m-k] = conj(E - w^k O).
 */
void tfspec_rfft(const tfspec_fft *fft, float *data) {
  const uint32_t m = fft->n / 2u;
  complex_fft(fft, data);
  const cplx first = load(data, 0u);
  store(data, 0u, first.re + first.im, first.re - first.im);
  for (uint32_t k = 1u; k < m / 2u; ++k) {
    const cplx a = load(data, k), b = load(data, m - k);
    const cplx even = {0.5f * (a.re + b.re), 0.5f * (a.im - b.im)};
    const cplx odd = {0.5f * (a.im + b.im), 0.5f * (b.re - a.re)};
    const cplx turned = multiply(twiddle(fft, k), odd);
    store(data, k, even.re + turned.re, even.im + turned.im);
    store(data, m - k, even.re - turned.re, turned.im - even.im);
  }
  data[m + 1u] = -data[m + 1u]; /* k = m/2: w^k = -i */
}

/*
 * Undoes the separation above, then uses ifft(Z) = swap(fft(swap(Z))) / m, where swap exchanges
 * real and imaginary parts. The halves are left out and made up for by the final factor.
 */
void tfspec_irfft(const tfspec_fft *fft, float *data) {
  const uint32_t m = fft->n / 2u;
  const float scale = 1.0f / (float)fft->n;
  const cplx ends = load(data, 0u), middle = load(data, m / 2u);
  store(data, 0u, ends.re - ends.im, ends.re + ends.im);
  for (uint32_t k = 1u; k < m / 2u; ++k) {
    const cplx a = load(data, k), b = load(data, m - k);
    const cplx even = {a.re + b.re, a.im - b.im}, turned = {a.re - b.re, a.im + b.im};
    cplx back = twiddle(fft, k);
    back.im = -back.im;
    const cplx odd = multiply(back, turned);
    store(data, k, even.im + odd.re, even.re - odd.im);
    store(data, m - k, odd.re - even.im, even.re + odd.im);
  }
  store(data, m / 2u, -2.0f * middle.im, 2.0f * middle.re);
  complex_fft(fft, data);
  for (uint32_t k = 0u; k < m; ++k) {
    const cplx z = load(data, k);
    store(data, k, scale * z.im, scale * z.re);
  }
}
