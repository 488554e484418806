// A "board" for the host: 16-bit samples from standard input to standard output. The codec's
// interrupt is played by board_wait, which moves an odd number of samples at a time.

#include <stdio.h>

#include "board.h"

static audio_ring *g_capture, *g_playback;

static const uint32_t kBlock = 77;

bool board_start(uint32_t sample_rate, audio_ring *capture, audio_ring *playback) {
  g_capture = capture;
  g_playback = playback;
  return sample_rate == 8000;
}

bool board_wait(void) {
  int16_t samples[kBlock];
  const size_t count = fread(samples, sizeof(int16_t), kBlock, stdin);
  if (count == 0) return false;
  if (!audio_ring_write(g_capture, samples, static_cast<uint32_t>(count))) board_overrun();
  int16_t played[kBlock] = {};
  audio_ring_read(g_playback, played, static_cast<uint32_t>(count));
  fwrite(played, sizeof(int16_t), count, stdout);
  return true;
}

void board_overrun(void) { fputs("overrun\n", stderr); }

void board_fail(const char *step, int code) { fprintf(stderr, "%s: %d\n", step, code); }
