// Real-time separation on a microcontroller: capture, hop, network, playback.
//
// The codec's interrupt fills one ring and empties another (board.h). The loop takes a hop of
// samples, gives it to the separator, which runs the network every kStepFrames hops, and queues
// the hop of the separated source. While the network runs, the capture ring takes the samples
// that arrive and the playback ring is played: both must cover its run time, which is why
// playback starts with that much silence.

#include "audio_ring.h"
#include "board.h"
#include "tfspec_model.h"
#include "tfspec_model_runner.h"
#include "tfspec_separator.h"

namespace {

constexpr uint32_t kFft = TFSPEC_N_FFT;
constexpr uint32_t kHop = TFSPEC_HOP_LENGTH;
constexpr uint32_t kFrames = TFSPEC_N_FRAMES;
// Half a segment per run of the network, with a quarter of context on either side.
constexpr uint32_t kStepFrames = kFrames / 2;
constexpr uint32_t kLookaheadFrames = kFrames / 4;
// What is played while the network runs for the first time: it has to be done within one step.
constexpr uint32_t kHeadStart = kStepFrames * kHop;

static_assert(2 * kHeadStart <= AUDIO_RING_SAMPLES, "the rings must hold two steps");

float g_cosine[TFSPEC_COSINE_FLOATS(kFft)];
float g_memory[TFSPEC_SEPARATOR_FLOATS(kFft, kHop, kFrames)];
tfspec_separator g_separator;
audio_ring g_capture, g_playback;

// Float sample to 16 bits, rounded and clamped.
int16_t to_int16(float sample) {
  const float scaled = sample * 32768.0f;
  if (scaled >= 32767.0f) return 32767;
  if (scaled <= -32768.0f) return -32768;
  return static_cast<int16_t>(scaled < 0.0f ? scaled - 0.5f : scaled + 0.5f);
}

// Connects the separator with the model's tensors.
tfspec_status start_separator(const tfspec_model_tensors &tensors) {
  tfspec_fft_make_cosine(g_cosine, kFft);
  tfspec_separator_config config = {};
  config.n_fft = kFft;
  config.hop_length = kHop;
  config.n_bins = TFSPEC_N_BINS;
  config.n_frames = kFrames;
  config.step_frames = kStepFrames;
  config.lookahead_frames = kLookaheadFrames;
  config.cosine = g_cosine;
  config.above = TFSPEC_ABOVE_EXTEND;
  config.input = tensors.input;
  config.input_quantization = {TFSPEC_INPUT_SCALE, TFSPEC_INPUT_ZERO_POINT};
  config.mask.quantized = tensors.output;
  config.mask.quantization = {TFSPEC_OUTPUT_SCALE, TFSPEC_OUTPUT_ZERO_POINT};
  config.mask.n_channels = static_cast<uint32_t>(tensors.output_size / tensors.input_size);
  config.invoke = tfspec_model_invoke;
  return tfspec_separator_init(&g_separator, &config, g_memory);
}

// Separates all whole hops that have arrived; false if the network failed.
bool separate_captured() {
  static int16_t samples[kHop];
  static float hop[kHop];
  while (audio_ring_read(&g_capture, samples, kHop)) {
    for (uint32_t i = 0; i < kHop; ++i) hop[i] = static_cast<float>(samples[i]) / 32768.0f;
    const tfspec_status status = tfspec_separator_process(&g_separator, hop, hop);
    if (status != TFSPEC_OK) return false;
    for (uint32_t i = 0; i < kHop; ++i) samples[i] = to_int16(hop[i]);
    if (!audio_ring_write(&g_playback, samples, kHop)) board_overrun();
  }
  return true;
}

// Gives playback a lead of one step of silence.
void queue_silence() {
  static const int16_t silence[kHop] = {};
  for (uint32_t i = 0; i < kHeadStart; i += kHop) audio_ring_write(&g_playback, silence, kHop);
}

int fail(const char *step, int code) {
  board_fail(step, code);
  return 1;
}

}  // namespace

int main() {
  tfspec_model_tensors tensors = {};
  if (const int code = tfspec_model_start(&tensors)) return fail("model", code);
  if (tensors.input_size != static_cast<size_t>(TFSPEC_N_BINS) * kFrames) {
    return fail("input size", static_cast<int>(tensors.input_size));
  }
  if (const int code = start_separator(tensors)) return fail("separator", code);
  queue_silence();
  if (!board_start(TFSPEC_SAMPLE_RATE, &g_capture, &g_playback)) return fail("codec", 0);
  while (board_wait()) {
    if (!separate_captured()) return fail("network", TFSPEC_INVOKE_FAILED);
  }
  return 0;
}
