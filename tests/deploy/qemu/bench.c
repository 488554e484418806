/*
 * Counts instructions and stack of the library's operations under QEMU (`-icount shift=0`: every
 * instruction takes 1 ns). Prints `name ticks repeats stack`, one operation per line; the first is
 * a loop of known length, by which `measure.py` turns ticks into instructions.
 */
#include <stdio.h>
#include <string.h>

#include "tfspec_frontend.h"
#include "tfspec_frontend_q15.h"
#include "tfspec_separator.h"

enum { N_FFT = 256, HOP = 64, BINS = 128, FRAMES = 32, STEP = 16, LOOKAHEAD = 8, BANDS = 40 };
enum { PAINTED = 4096, CALIBRATION_LOOPS = 1000000 };

static float g_cosine[1024], g_data[1024], g_out[1024], g_hop[HOP], g_window[N_FFT];
static float g_memory[TFSPEC_SEPARATOR_FLOATS(N_FFT, HOP, FRAMES)];
static float g_istft_memory[TFSPEC_ISTFT_FLOATS(N_FFT, HOP)], g_history[N_FFT];
static float g_mel_weights[N_FFT];
static uint16_t g_mel_start[BANDS], g_mel_length[BANDS], g_mel_weights_q15[N_FFT];
static int16_t g_cosine_q15[1024], g_data_q15[1024], g_samples_q15[HOP], g_history_q15[N_FFT];
static int32_t g_log_mel[BANDS];
static int8_t g_tensor[BINS * FRAMES];
static tfspec_fft g_fft;
static tfspec_fft_q15 g_fft_q15;
static tfspec_stft g_stft;
static tfspec_stft_q15 g_stft_q15;
static tfspec_istft g_istft;
static tfspec_separator g_separator;
static tfspec_mel_bank g_mel;
static tfspec_mel_bank_q15 g_mel_q15;

static int invoke(void *context) {
  (void)context;
  return 0;
}

/* Pseudo-random samples in [-1, 1): the fixed-point code's time depends on its data. */
static void fill_noise(void) {
  uint32_t state = 1u;
  for (uint32_t i = 0u; i < 1024u; ++i) {
    state = state * 1664525u + 1013904223u;
    g_data_q15[i] = (int16_t)((int32_t)(state >> 16) - 32768);
    g_data[i] = (float)g_data_q15[i] / 32768.0f;
    if (i < HOP) {
      g_hop[i] = g_data[i];
      g_samples_q15[i] = g_data_q15[i];
    }
  }
}

/* Bands that overlap by half and widen, as mel bands do: about two weights per bin. */
static void make_mel(void) {
  uint32_t used = 0u;
  for (uint32_t b = 0u; b < BANDS; ++b) {
    const uint32_t width = 2u + b / 5u, start = b * b / 16u + b;
    g_mel_start[b] = (uint16_t)(start + width < BINS ? start : BINS - width);
    g_mel_length[b] = (uint16_t)width;
    used += width;
  }
  for (uint32_t i = 0u; i < used && i < N_FFT; ++i) {
    g_mel_weights[i] = 0.5f;
    g_mel_weights_q15[i] = 32768u;
  }
  g_mel = (tfspec_mel_bank){BANDS, g_mel_start, g_mel_length, g_mel_weights};
  g_mel_q15 = (tfspec_mel_bank_q15){BANDS, g_mel_start, g_mel_length, g_mel_weights_q15, 0};
}

static void plan(uint32_t n) {
  tfspec_fft_make_cosine(g_cosine, n);
  tfspec_fft_q15_make_cosine(g_cosine_q15, n);
  tfspec_fft_init(&g_fft, n, g_cosine);
  tfspec_fft_q15_init(&g_fft_q15, n, g_cosine_q15);
}

static void set_up(void) {
  const tfspec_quantization unit = {1.0f / 255.0f, -128};
  const tfspec_mask mask = {NULL, g_tensor, unit, 1u, 0u};
  const tfspec_separator_config config = {N_FFT,     HOP,      BINS, FRAMES,
                                          STEP,      LOOKAHEAD, g_cosine, NULL,
                                          TFSPEC_ABOVE_EXTEND, g_tensor, unit, mask,
                                          invoke,    NULL};
  plan(N_FFT);
  make_mel();
  tfspec_stft_init(&g_stft, &g_fft, NULL, HOP, g_history);
  tfspec_stft_prime(&g_stft, N_FFT - HOP);
  tfspec_istft_init(&g_istft, &g_fft, NULL, HOP, g_istft_memory);
  tfspec_stft_q15_init(&g_stft_q15, &g_fft_q15, HOP, g_history_q15);
  tfspec_stft_q15_prime(&g_stft_q15, N_FFT - HOP);
  tfspec_separator_init(&g_separator, &config, g_memory);
}

static void calibration(void) {
  uint32_t count = CALIBRATION_LOOPS;
  __asm volatile("1: subs %0, %0, #1\n bne 1b" : "+r"(count) : : "cc");
}

static void nothing(void) {}
static void rfft(void) { tfspec_rfft(&g_fft, g_data); }
static void irfft(void) { tfspec_irfft(&g_fft, g_data); }
static void rfft_q15(void) { tfspec_rfft_q15(&g_fft_q15, g_data_q15, 0); }
static void istft_frame(void) { tfspec_istft_frame(&g_istft, g_data, g_out); }
static void magnitude(void) { tfspec_magnitude(g_data, N_FFT, BINS, g_out); }
static void magnitude_q15(void) {
  tfspec_magnitude_q15(g_data_q15, N_FFT, BINS, (uint16_t *)g_window);
}

static void stft_frame(void) {
  bool ready;
  tfspec_stft_push(&g_stft, g_hop, HOP, g_data, &ready);
}

static void stft_frame_q15(void) {
  bool ready;
  int32_t exponent;
  tfspec_stft_q15_push(&g_stft_q15, g_samples_q15, HOP, g_data_q15, &exponent, &ready);
}

static void log_mel(void) {
  const tfspec_features features = {N_FFT,  BINS, TFSPEC_POWER, &g_mel, TFSPEC_COMPRESS_LOG_OFFSET,
                                    1e-6f};
  tfspec_features_compute(&features, g_data, g_out);
}

static void log_mel_q15(void) {
  tfspec_log_mel_q15(&g_mel_q15, TFSPEC_Q15_POWER, g_data_q15, N_FFT, 0, -800000, g_log_mel);
}

static void segment_input(void) {
  const tfspec_quantization unit = {1.0f / 255.0f, -128};
  tfspec_segment_input_int8(&g_separator.segment, unit, g_tensor);
}

static void mask_frame(void) {
  tfspec_segment_apply(&g_separator.segment, 0u, &g_separator.config.mask, 0u, TFSPEC_ABOVE_EXTEND,
                       g_data);
}

static void separator_hops(void) {
  for (uint32_t i = 0u; i < STEP; ++i) tfspec_separator_process(&g_separator, g_hop, g_out);
}

static uint32_t ticks_of(void (*work)(void), uint32_t repeats) {
  volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010u; /* control, load, value */
  systick[1] = 0xFFFFFFu;
  systick[2] = 0u;
  systick[0] = 5u; /* processor clock, running */
  const uint32_t start = systick[2];
  for (uint32_t i = 0u; i < repeats; ++i) work();
  const uint32_t end = systick[2];
  systick[0] = 0u;
  return (start - end) & 0xFFFFFFu;
}

/* Bytes of stack that a call overwrites, from a pattern painted below this frame. */
static __attribute__((noinline)) uint32_t stack_of(void (*work)(void)) {
  volatile unsigned char *const top = (volatile unsigned char *)__builtin_frame_address(0);
  for (uint32_t i = 1u; i <= PAINTED; ++i) *(top - i) = 0xA5u;
  work();
  for (uint32_t i = PAINTED; i > 0u; --i) {
    if (*(top - i) != 0xA5u) return i;
  }
  return 0u;
}

static void report(const char *name, void (*work)(void), uint32_t repeats) {
  fill_noise();
  const uint32_t stack = stack_of(work);
  fill_noise();
  const uint32_t ticks = ticks_of(work, repeats);
  printf("%s %lu %lu %lu\n", name, (unsigned long)ticks, (unsigned long)repeats,
         (unsigned long)stack);
}

int main(void) {
  set_up();
  report("calibration", calibration, 1u);
  report("nothing", nothing, 100u);
  report("stft_frame", stft_frame, 20u);
  report("istft_frame", istft_frame, 20u);
  report("magnitude", magnitude, 20u);
  report("log_mel", log_mel, 1u);
  separator_hops();
  separator_hops();
  report("segment_input_int8", segment_input, 1u);
  report("mask_frame", mask_frame, 20u);
  report("separator_step", separator_hops, 1u);
  report("stft_frame_q15", stft_frame_q15, 20u);
  report("magnitude_q15", magnitude_q15, 20u);
  report("log_mel_q15", log_mel_q15, 20u);
  plan(256u);
  report("rfft_256", rfft, 1u);
  report("irfft_256", irfft, 1u);
  report("rfft_q15_256", rfft_q15, 1u);
  plan(1024u);
  report("rfft_1024", rfft, 1u);
  report("rfft_q15_1024", rfft_q15, 1u);
  return 0;
}
