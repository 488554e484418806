/* Block-floating-point real FFT; the structure is that of tfspec_fft.c, see the comments there. */
#include <math.h>

#include "tfspec_frontend_q15.h"

/* A complex number with head room: 16-bit data, but sums and products of it. */
typedef struct {
  int32_t re, im;
} cplx;

/* An array of complex values and what a pass needs to keep them in range. */
typedef struct {
  int16_t *z;
  int32_t shift;  /* The pass divides its results by 2^shift. */
  uint32_t bits;  /* OR of the magnitudes of all results: its length is that of the largest. */
} block;

static inline cplx load(const block *b, uint32_t i) {
  cplx value = {b->z[2u * i], b->z[2u * i + 1u]};
  return value;
}

/*
 * Divides by 2^shift and rounds halves to even: rounding them up is a bias of 1/4 step at a shift
 * of one, which the passes that follow add up in a few bins. The shift makes 16 bits suffice, but
 * for a carry of rounding.
 */
static inline int16_t narrow(block *b, int32_t value) {
  int32_t rounded = value >> b->shift;
  if (b->shift > 0) rounded = (value + (1 << (b->shift - 1)) - 1 + (rounded & 1)) >> b->shift;
  if (rounded > INT16_MAX) rounded = INT16_MAX;
  b->bits |= (uint32_t)(rounded ^ (rounded >> 31));
  return (int16_t)rounded;
}

static inline void store(block *b, uint32_t i, int32_t re, int32_t im) {
  b->z[2u * i] = narrow(b, re);
  b->z[2u * i + 1u] = narrow(b, im);
}

static inline cplx twiddle(const tfspec_fft_q15 *fft, uint32_t k) {
  cplx w = {fft->cosine[k], fft->cosine[k + fft->n / 4u]};
  return w;
}

/* Product with a Q15 rotation; 2 * 32768 * 32767 is still below 2^31. */
static inline cplx rotate(cplx w, cplx a) {
  cplx product = {(w.re * a.re - w.im * a.im + (1 << 14)) >> 15,
                  (w.re * a.im + w.im * a.re + (1 << 14)) >> 15};
  return product;
}

static int32_t bit_length(uint32_t bits) {
  int32_t length = 0;
  for (; bits != 0u; bits >>= 1) ++length;
  return length;
}

/*
 * Prepares a pass that makes values up to 2^growth times as large. Returns the shift, which the
 * exponent has to take up.
 */
static int32_t begin_pass(block *b, int32_t growth) {
  const int32_t shift = bit_length(b->bits) + growth - 15;
  b->shift = shift > 0 ? shift : 0;
  b->bits = 0u;
  return b->shift;
}

static uint32_t bits_of(const int16_t *data, uint32_t n) {
  uint32_t bits = 0u;
  for (uint32_t i = 0u; i < n; ++i) {
    const int32_t value = data[i];
    bits |= (uint32_t)(value ^ (value >> 31));
  }
  return bits;
}

static void reverse_bits(int16_t *z, uint32_t m) {
  for (uint32_t i = 1u, j = 0u; i < m; ++i) {
    uint32_t bit = m >> 1;
    for (; (j & bit) != 0u; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      const int16_t re = z[2u * i], im = z[2u * i + 1u];
      z[2u * i] = z[2u * j];
      z[2u * i + 1u] = z[2u * j + 1u];
      z[2u * j] = re;
      z[2u * j + 1u] = im;
    }
  }
}

static void radix2_pass(block *b, uint32_t m) {
  for (uint32_t i = 0u; i < m; i += 2u) {
    const cplx x = load(b, i), y = load(b, i + 1u);
    store(b, i, x.re + y.re, x.im + y.im);
    store(b, i + 1u, x.re - y.re, x.im - y.im);
  }
}

static inline void radix4(block *b, uint32_t i, uint32_t span, cplx x0, cplx x1, cplx x2, cplx x3) {
  const cplx s02 = {x0.re + x2.re, x0.im + x2.im}, d02 = {x0.re - x2.re, x0.im - x2.im};
  const cplx s13 = {x1.re + x3.re, x1.im + x3.im}, d13 = {x1.re - x3.re, x1.im - x3.im};
  store(b, i, s02.re + s13.re, s02.im + s13.im);
  store(b, i + span, d02.re + d13.im, d02.im - d13.re);
  store(b, i + 2u * span, s02.re - s13.re, s02.im - s13.im);
  store(b, i + 3u * span, d02.re - d13.im, d02.im + d13.re);
}

static void radix4_pass(const tfspec_fft_q15 *fft, block *b, uint32_t m, uint32_t span) {
  const uint32_t step = fft->n / (4u * span);
  for (uint32_t i = 0u; i < m; i += 4u * span) {
    radix4(b, i, span, load(b, i), load(b, i + 2u * span), load(b, i + span),
           load(b, i + 3u * span));
  }
  for (uint32_t k = 1u; k < span; ++k) {
    const cplx w1 = twiddle(fft, k * step), w2 = twiddle(fft, 2u * k * step);
    const cplx w3 = twiddle(fft, 3u * k * step);
    for (uint32_t i = k; i < m; i += 4u * span) {
      radix4(b, i, span, load(b, i), rotate(w1, load(b, i + 2u * span)),
             rotate(w2, load(b, i + span)), rotate(w3, load(b, i + 3u * span)));
    }
  }
}

/* Complex transform; returns what has to be added to the exponent. */
static int32_t complex_fft(const tfspec_fft_q15 *fft, block *b) {
  const uint32_t m = fft->n / 2u;
  uint32_t span = 1u;
  int32_t shifts = 0;
  reverse_bits(b->z, m);
  if ((bit_length(m) & 1) == 0) { /* log2(m) is odd */
    shifts += begin_pass(b, 1);
    radix2_pass(b, m);
    span = 2u;
  }
  for (; span < m; span *= 4u) {
    /* Without rotations results grow 4-fold; with them by 1 + 3 sqrt(2) < 2^3 at most. */
    shifts += begin_pass(b, span == 1u ? 2 : 3);
    radix4_pass(fft, b, m, span);
  }
  return shifts;
}

/* Joins the even and odd samples' transforms; returns what has to be added to the exponent. */
static int32_t join_halves(const tfspec_fft_q15 *fft, block *b) {
  const uint32_t m = fft->n / 2u;
  const int32_t shift = begin_pass(b, 2); /* 1 + sqrt(2) < 2^2 */
  const cplx first = load(b, 0u), middle = load(b, m / 2u);
  ++b->shift; /* everything below is doubled, to halve without loss */
  store(b, 0u, 2 * (first.re + first.im), 2 * (first.re - first.im));
  store(b, m / 2u, 2 * middle.re, -2 * middle.im);
  for (uint32_t k = 1u; k < m / 2u; ++k) {
    const cplx x = load(b, k), y = load(b, m - k), w = twiddle(fft, k);
    const cplx even = {x.re + y.re, x.im - y.im};
    const cplx odd = {x.im + y.im, y.re - x.re};
    const int64_t re = (int64_t)w.re * odd.re - (int64_t)w.im * odd.im; /* odd has 17 bits */
    const int64_t im = (int64_t)w.re * odd.im + (int64_t)w.im * odd.re;
    const cplx turned = {(int32_t)((re + (1 << 14)) >> 15), (int32_t)((im + (1 << 14)) >> 15)};
    store(b, k, even.re + turned.re, even.im + turned.im);
    store(b, m - k, even.re - turned.re, turned.im - even.im);
  }
  return shift;
}

void tfspec_fft_q15_make_cosine(int16_t *table, uint32_t n) {
  const double pi = 3.14159265358979323846;
  for (uint32_t k = 0u; k < n; ++k) {
    table[k] = (int16_t)lround(32767.0 * cos(2.0 * pi * (double)k / (double)n));
  }
}

tfspec_status tfspec_fft_q15_init(tfspec_fft_q15 *fft, uint32_t n, const int16_t *cosine) {
  if (fft == NULL || cosine == NULL) return TFSPEC_NULL_POINTER;
  if (!tfspec_fft_size_ok(n)) return TFSPEC_BAD_FFT_SIZE;
  fft->n = n;
  fft->cosine = cosine;
  return TFSPEC_OK;
}

int32_t tfspec_rfft_q15(const tfspec_fft_q15 *fft, int16_t *data, int32_t exponent) {
  block b = {data, 0, bits_of(data, fft->n)};
  exponent += complex_fft(fft, &b);
  return exponent + join_halves(fft, &b);
}
