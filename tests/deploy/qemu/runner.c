/*
 * Runs library functions on data from the file `in.bin` and writes the results to `out.bin`; the
 * same program on the host and, through semihosting, under QEMU.
 *
 * in.bin: commands of four uint32 (operation, number of ints, floats, shorts) and that data.
 * out.bin: for each command a uint32 number of bytes and the bytes. Words are little-endian.
 */
#include <stdio.h>
#include <string.h>

#include "tfspec_frontend.h"
#include "tfspec_frontend_q15.h"
#include "tfspec_separator.h"

#define MAX_INTS 512
#define MAX_FLOATS 40000
#define MAX_SHORTS 40000
#define N_MAX TFSPEC_FFT_MAX

typedef struct {
  uint32_t op, n_ints, n_floats, n_shorts;
  int32_t ints[MAX_INTS];
  float floats[MAX_FLOATS];
  int16_t shorts[MAX_SHORTS];
} command;

static command g_command;
static unsigned char g_result[400000];
static size_t g_result_size;
static float g_cosine[N_MAX], g_work[N_MAX], g_memory[60000];
static int16_t g_cosine_q15[N_MAX], g_work_q15[N_MAX], g_history_q15[N_MAX];
static int8_t g_input[20000], g_mask[20000];

static void emit(const void *data, size_t size) {
  if (g_result_size + size > sizeof(g_result)) return; /* seen as a short result in Python */
  memcpy(g_result + g_result_size, data, size);
  g_result_size += size;
}

static void emit_int(int32_t value) { emit(&value, sizeof(value)); }

static tfspec_fft make_fft(uint32_t n) {
  tfspec_fft fft;
  tfspec_fft_make_cosine(g_cosine, n);
  tfspec_fft_init(&fft, n, g_cosine);
  return fft;
}

static tfspec_fft_q15 make_fft_q15(uint32_t n) {
  tfspec_fft_q15 fft;
  tfspec_fft_q15_make_cosine(g_cosine_q15, n);
  tfspec_fft_q15_init(&fft, n, g_cosine_q15);
  return fft;
}

static void run_cosine(const command *c) {
  const uint32_t n = (uint32_t)c->ints[0];
  make_fft(n);
  emit(g_cosine, n * sizeof(float));
  make_fft_q15(n);
  emit(g_cosine_q15, n * sizeof(int16_t));
}

static void run_fft(command *c, bool inverse) {
  const tfspec_fft fft = make_fft((uint32_t)c->ints[0]);
  if (inverse) {
    tfspec_irfft(&fft, c->floats);
  } else {
    tfspec_rfft(&fft, c->floats);
  }
  emit(c->floats, fft.n * sizeof(float));
}

/* ints: n_fft, hop, zeros to prime with, piece length, zeros at the end, whether there is a window
 * (n_fft floats before the samples). Samples are the shorts if there are any. */
static void run_stft(const command *c) {
  const tfspec_fft fft = make_fft((uint32_t)c->ints[0]);
  const bool has_window = c->ints[5] != 0;
  const float *samples = c->floats + (has_window ? fft.n : 0u);
  const size_t n_samples = c->n_shorts ? c->n_shorts : c->n_floats - (has_window ? fft.n : 0u);
  const size_t total = n_samples + (size_t)c->ints[4];
  tfspec_stft stft;
  tfspec_status status = tfspec_stft_init(&stft, &fft, has_window ? c->floats : NULL,
                                          (uint32_t)c->ints[1], g_memory);
  if (status == TFSPEC_OK) status = tfspec_stft_prime(&stft, (uint32_t)c->ints[2]);
  emit_int(status);
  if (status != TFSPEC_OK) return;
  for (size_t at = 0u; at < total;) {
    const size_t end = at < n_samples ? n_samples : total;
    const size_t piece = end - at < (size_t)c->ints[3] ? end - at : (size_t)c->ints[3];
    bool ready = false;
    if (c->n_shorts) {
      const int16_t *from = at < n_samples ? c->shorts + at : NULL;
      at += tfspec_stft_push_int16(&stft, from, piece, g_work, &ready);
    } else {
      at += tfspec_stft_push(&stft, at < n_samples ? samples + at : NULL, piece, g_work, &ready);
    }
    if (ready) emit(g_work, fft.n * sizeof(float));
  }
}

/* ints: n_fft, n_bins, kind, compression, n_bands; floats: constant, spectrum, weights;
 * shorts: start, length. */
static void run_features(command *c) {
  const uint32_t n_bands = (uint32_t)c->ints[4];
  const tfspec_mel_bank bank = {n_bands, (const uint16_t *)c->shorts,
                                (const uint16_t *)c->shorts + n_bands,
                                c->floats + 1 + c->ints[0]};
  const tfspec_features features = {(uint32_t)c->ints[0],
                                    (uint32_t)c->ints[1],
                                    (tfspec_spectrum_kind)c->ints[2],
                                    n_bands ? &bank : NULL,
                                    (tfspec_compression)c->ints[3],
                                    c->floats[0]};
  const tfspec_status status = tfspec_features_check(&features);
  emit_int(status);
  if (status != TFSPEC_OK) return;
  tfspec_features_compute(&features, c->floats + 1, g_work);
  emit(g_work, tfspec_features_size(&features) * sizeof(float));
}

/* ints: zero point, stride; floats: scale, values. */
static void run_quantize(const command *c) {
  const tfspec_quantization quantization = {c->floats[0], c->ints[0]};
  const size_t stride = (size_t)c->ints[1];
  memset(g_input, 99, sizeof(g_input));
  emit_int(tfspec_quantization_check(quantization));
  tfspec_quantize_array(c->floats + 1, c->n_floats - 1u, quantization, g_input, stride);
  emit(g_input, (c->n_floats - 1u) * stride);
  for (uint32_t i = 1u; i < c->n_floats; ++i) {
    const float back = tfspec_dequantize(g_input[(i - 1u) * stride], quantization);
    emit(&back, sizeof(back));
  }
}

/* ints: n_fft, n_bins, n_frames, pushed frames, column, mask column, policy, n_channels, channel,
 * zero points of input and mask; floats: scales of input and mask, spectra, then the mask in float
 * (none: int8 mask from the shorts). */
static void run_segment(const command *c) {
  const uint32_t n_fft = (uint32_t)c->ints[0], n_bins = (uint32_t)c->ints[1];
  const uint32_t n_frames = (uint32_t)c->ints[2], pushed = (uint32_t)c->ints[3];
  tfspec_segment segment;
  emit_int(tfspec_segment_init(&segment, n_fft, n_bins, n_frames, g_memory));
  for (uint32_t t = 0u; t < pushed; ++t) {
    memcpy(tfspec_segment_slot(&segment), c->floats + 2 + t * n_fft, n_fft * sizeof(float));
    tfspec_segment_push(&segment);
  }
  const float level = tfspec_segment_level(&segment);
  emit(&level, sizeof(level));
  float *input = g_memory + TFSPEC_SEGMENT_FLOATS(n_fft, n_frames);
  tfspec_segment_input(&segment, input);
  emit(input, n_bins * n_frames * sizeof(float));
  const tfspec_quantization in = {c->floats[0], c->ints[9]}, out = {c->floats[1], c->ints[10]};
  for (uint32_t i = 0u; i < c->n_shorts; ++i) g_mask[i] = (int8_t)c->shorts[i];
  const tfspec_mask mask = {c->n_shorts ? NULL : c->floats + 2 + pushed * n_fft, g_mask, out,
                            (uint32_t)c->ints[7], (uint32_t)c->ints[8]};
  tfspec_segment_apply(&segment, (uint32_t)c->ints[4], &mask, (uint32_t)c->ints[5],
                       (tfspec_band_policy)c->ints[6], g_work);
  emit(g_work, n_fft * sizeof(float));
  tfspec_segment_input_int8(&segment, in, g_input);
  emit(g_input, n_bins * n_frames);
}

/* A "network" whose mask is its input; `remaining` calls succeed. */
typedef struct {
  size_t size;
  int32_t remaining;
  bool pass_all;
} network;

static int invoke(void *context) {
  network *net = (network *)context;
  if (net->pass_all) {
    memset(g_mask, 127, net->size);
  } else {
    memcpy(g_mask, g_input, net->size);
  }
  return net->remaining-- > 0 ? 0 : 1;
}

/* ints: n_fft, hop, n_bins, n_frames, step, lookahead, policy, pass all, calls that succeed;
 * floats: samples. Input and mask have the scale 1/255 and the zero point -128: mask 127 is 1. */
static void run_separator(const command *c) {
  const uint32_t n_fft = (uint32_t)c->ints[0], hop = (uint32_t)c->ints[1];
  const tfspec_quantization unit = {1.0f / 255.0f, -128};
  network net = {(size_t)(c->ints[2] * c->ints[3]), c->ints[8], c->ints[7] != 0};
  const tfspec_mask mask = {NULL, g_mask, unit, 1u, 0u};
  if (n_fft <= N_MAX) tfspec_fft_make_cosine(g_cosine, n_fft);
  const tfspec_separator_config config = {
      n_fft, hop, (uint32_t)c->ints[2], (uint32_t)c->ints[3], (uint32_t)c->ints[4],
      (uint32_t)c->ints[5], g_cosine, NULL, (tfspec_band_policy)c->ints[6], g_input, unit, mask,
      invoke, &net};
  tfspec_separator separator;
  const tfspec_status status = tfspec_separator_init(&separator, &config, g_memory);
  emit_int(status);
  for (uint32_t at = 0u; status == TFSPEC_OK && at + hop <= c->n_floats; at += hop) {
    emit_int(tfspec_separator_process(&separator, c->floats + at, g_work));
    emit(g_work, hop * sizeof(float));
  }
}

/* ints: n_fft, hop, zeros to prime with, piece length. */
static void run_stft_q15(const command *c) {
  const tfspec_fft_q15 fft = make_fft_q15((uint32_t)c->ints[0]);
  tfspec_stft_q15 stft;
  tfspec_status status =
      tfspec_stft_q15_init(&stft, &fft, (uint32_t)c->ints[1], g_history_q15);
  if (status == TFSPEC_OK) status = tfspec_stft_q15_prime(&stft, (uint32_t)c->ints[2]);
  emit_int(status);
  if (status != TFSPEC_OK) return;
  for (size_t at = 0u; at < c->n_shorts;) {
    const size_t left = c->n_shorts - at;
    const size_t piece = left < (size_t)c->ints[3] ? left : (size_t)c->ints[3];
    bool ready = false;
    int32_t exponent = 0;
    at += tfspec_stft_q15_push(&stft, c->shorts + at, piece, g_work_q15, &exponent, &ready);
    if (!ready) continue;
    emit_int(exponent);
    emit(g_work_q15, fft.n * sizeof(int16_t));
  }
}

/* ints: n_fft, n_bins; shorts: spectrum, which is overwritten. */
static void run_magnitude_q15(command *c) {
  uint16_t *out = (uint16_t *)c->shorts;
  tfspec_magnitude_q15(c->shorts, (uint32_t)c->ints[0], (uint32_t)c->ints[1], out);
  emit(out, (size_t)c->ints[1] * sizeof(uint16_t));
}

/* ints: n_fft, kind, exponent, floor, n_bands, log scale; shorts: spectrum, start, length,
 * weights. */
static void run_log_mel_q15(const command *c) {
  const uint32_t n_fft = (uint32_t)c->ints[0], n_bands = (uint32_t)c->ints[4];
  const uint16_t *table = (const uint16_t *)c->shorts + n_fft;
  const tfspec_mel_bank_q15 bank = {n_bands, table, table + n_bands, table + 2u * n_bands,
                                    c->ints[5]};
  int32_t out[256];
  tfspec_log_mel_q15(&bank, (tfspec_q15_kind)c->ints[1], c->shorts, n_fft, c->ints[2], c->ints[3],
                     out);
  emit(out, n_bands * sizeof(int32_t));
}

/* ints: triples of low word, high word, exponent. */
static void run_ln_q16(const command *c) {
  for (uint32_t i = 0u; i + 2u < c->n_ints; i += 3u) {
    const uint64_t value = ((uint64_t)(uint32_t)c->ints[i + 1u] << 32) | (uint32_t)c->ints[i];
    emit_int(tfspec_ln_q16(value, c->ints[i + 2u]));
  }
}

/* ints: inverse scale, zero point, values. */
static void run_quantize_q16(const command *c) {
  for (uint32_t i = 2u; i < c->n_ints; ++i) {
    const int8_t q = tfspec_quantize_q16(c->ints[i], c->ints[0], c->ints[1]);
    emit(&q, 1u);
  }
}

static void run(command *c) {
  switch (c->op) {
    case 0u: run_cosine(c); break;
    case 1u: run_fft(c, false); break;
    case 2u: run_fft(c, true); break;
    case 3u: run_stft(c); break;
    case 4u: run_features(c); break;
    case 5u: run_quantize(c); break;
    case 6u: run_segment(c); break;
    case 7u: run_separator(c); break;
    case 8u: run_stft_q15(c); break;
    case 9u: run_magnitude_q15(c); break;
    case 10u: run_log_mel_q15(c); break;
    case 11u: run_ln_q16(c); break;
    case 12u: run_quantize_q16(c); break;
    default: break;
  }
}

/* Reads the next command; false at the end of the file or if it does not fit. */
static bool read_command(FILE *file, command *c) {
  uint32_t head[4];
  if (fread(head, sizeof(uint32_t), 4u, file) != 4u) return false;
  c->op = head[0];
  c->n_ints = head[1];
  c->n_floats = head[2];
  c->n_shorts = head[3];
  if (c->n_ints > MAX_INTS || c->n_floats > MAX_FLOATS || c->n_shorts > MAX_SHORTS) return false;
  return fread(c->ints, sizeof(int32_t), c->n_ints, file) == c->n_ints &&
         fread(c->floats, sizeof(float), c->n_floats, file) == c->n_floats &&
         fread(c->shorts, sizeof(int16_t), c->n_shorts, file) == c->n_shorts;
}

int main(void) {
  FILE *in = fopen("in.bin", "rb"), *out = fopen("out.bin", "wb");
  if (in == NULL || out == NULL) return 2;
  while (read_command(in, &g_command)) {
    g_result_size = 0u;
    run(&g_command);
    const uint32_t size = (uint32_t)g_result_size;
    fwrite(&size, sizeof(size), 1u, out);
    fwrite(g_result, 1u, g_result_size, out);
  }
  fclose(in);
  return fclose(out) == 0 ? 0 : 3;
}
