#include "tfspec_separator.h"

static tfspec_status check(const tfspec_separator_config *config) {
  const bool no_output = config->mask.values == NULL && config->mask.quantized == NULL;
  if (config->input == NULL || config->invoke == NULL || no_output) return TFSPEC_NULL_POINTER;
  if (config->step_frames == 0u || config->step_frames > config->n_frames ||
      config->lookahead_frames > config->n_frames - config->step_frames ||
      config->mask.channel >= config->mask.n_channels) {
    return TFSPEC_BAD_FRAMES;
  }
  if (config->mask.values == NULL &&
      tfspec_quantization_check(config->mask.quantization) != TFSPEC_OK) {
    return TFSPEC_BAD_QUANTIZATION;
  }
  return tfspec_quantization_check(config->input_quantization);
}

/* Starts the parts, each with its share of the memory. */
static tfspec_status init_parts(tfspec_separator *separator, float *memory) {
  const tfspec_separator_config *config = &separator->config;
  const uint32_t n_fft = config->n_fft, hop = config->hop_length;
  tfspec_status status = tfspec_fft_init(&separator->fft, n_fft, config->cosine);
  if (status != TFSPEC_OK) return status;
  status = tfspec_stft_init(&separator->stft, &separator->fft, config->window, hop, memory);
  if (status != TFSPEC_OK) return status;
  memory += TFSPEC_STFT_FLOATS(n_fft);
  status = tfspec_istft_init(&separator->istft, &separator->fft, config->window, hop, memory);
  if (status != TFSPEC_OK) return status;
  memory += TFSPEC_ISTFT_FLOATS(n_fft, hop);
  separator->spectrum = memory;
  memory += n_fft;
  status = tfspec_segment_init(&separator->segment, n_fft, config->n_bins, config->n_frames,
                               memory);
  if (status != TFSPEC_OK) return status;
  return tfspec_stft_prime(&separator->stft, n_fft - hop); /* one frame per hop from the start */
}

tfspec_status tfspec_separator_init(tfspec_separator *separator,
                                    const tfspec_separator_config *config, float *memory) {
  if (separator == NULL || config == NULL || memory == NULL) return TFSPEC_NULL_POINTER;
  const tfspec_status status = check(config);
  if (status != TFSPEC_OK) return status;
  separator->config = *config;
  separator->in_step = 0u;
  separator->has_mask = false;
  return init_parts(separator, memory);
}

/* Runs the network on the segment; its mask then serves the next step_frames frames. */
static bool run_network(tfspec_separator *separator) {
  const tfspec_separator_config *config = &separator->config;
  tfspec_segment_input_int8(&separator->segment, config->input_quantization, config->input);
  separator->in_step = 0u;
  separator->has_mask = config->invoke(config->context) == 0;
  return separator->has_mask;
}

/*
 * Masks one frame. When the network has just run, the first frame that it serves lies
 * step + lookahead - 1 columns before the newest; each later call moves the spectra and the mask
 * column on by one, so the spectrum's column stays the same.
 */
static void mask_frame(tfspec_separator *separator) {
  const tfspec_separator_config *config = &separator->config;
  const uint32_t column = config->n_frames - config->lookahead_frames - config->step_frames;
  if (separator->has_mask) {
    tfspec_segment_apply(&separator->segment, column, &config->mask, column + separator->in_step,
                         config->above, separator->spectrum);
  } else {
    for (uint32_t i = 0u; i < config->n_fft; ++i) separator->spectrum[i] = 0.0f;
  }
}

tfspec_status tfspec_separator_process(tfspec_separator *separator, const float *in, float *out) {
  tfspec_status status = TFSPEC_OK;
  bool ready = false;
  tfspec_stft_push(&separator->stft, in, separator->config.hop_length,
                   tfspec_segment_slot(&separator->segment), &ready);
  tfspec_segment_push(&separator->segment);
  ++separator->in_step;
  if (separator->in_step == separator->config.step_frames && !run_network(separator)) {
    status = TFSPEC_INVOKE_FAILED;
  }
  mask_frame(separator);
  tfspec_istft_frame(&separator->istft, separator->spectrum, out);
  return status;
}
