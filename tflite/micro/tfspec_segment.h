/**
 * @file tfspec_segment.h
 * The segment that a mask network sees: a ring of complex spectra, from which the network's input
 * is computed and to which its mask is applied.
 *
 * Input: sqrt(magnitude / level), level = largest magnitude of the segment within the network's
 * bins (1 for a silent segment), as tfspec trains its mask models. Tensors are
 * (frequency, time, channel) with time running faster than frequency: value (k, t) of a
 * one-channel tensor is at k * n_frames + t; column 0 is the oldest frame.
 *
 * Magnitudes below 1e-19 of full scale count as silence (their squares leave float's range).
 */
#ifndef TFSPEC_SEGMENT_H_
#define TFSPEC_SEGMENT_H_

#include "tfspec_frontend.h"

TFSPEC_BEGIN_C

/** Floats of `memory` of a segment of `n_frames` spectra. */
#define TFSPEC_SEGMENT_FLOATS(n_fft, n_frames) ((n_frames) * ((n_fft) + 1))

/** What happens to the bins above the network's, the Nyquist bin among them. */
typedef enum {
  TFSPEC_ABOVE_EXTEND = 0, /**< Mask of the network's last bin. */
  TFSPEC_ABOVE_ZERO = 1,   /**< Removed. */
  TFSPEC_ABOVE_MIXTURE = 2 /**< Left as they are. */
} tfspec_band_policy;

/** The last `n_frames` spectra of a stream. */
typedef struct {
  uint32_t n_fft;
  uint32_t n_bins;   /**< Bins that the network sees, at most n_fft / 2 + 1. */
  uint32_t n_frames; /**< Frames that the network sees. */
  uint32_t next;     /**< Slot of the ring that is written next: the oldest one. */
  float *spectra;    /**< n_frames packed spectra. */
  float *peaks;      /**< Largest power of each spectrum within the network's bins. */
} tfspec_segment;

/** A mask as the network gives it. Exactly one of the two pointers is used. */
typedef struct {
  const float *values;              /**< (n_bins, n_frames, n_channels); NULL: `quantized`. */
  const int8_t *quantized;          /**< The same in int8. */
  tfspec_quantization quantization; /**< Of `quantized`. */
  uint32_t n_channels;              /**< Targets of the network. */
  uint32_t channel;                 /**< Target to use. */
} tfspec_mask;

/** Starts with a silent segment; `memory` holds TFSPEC_SEGMENT_FLOATS(n_fft, n_frames) floats. */
tfspec_status tfspec_segment_init(tfspec_segment *segment, uint32_t n_fft, uint32_t n_bins,
                                  uint32_t n_frames, float *memory);

/** Makes the segment silent. */
void tfspec_segment_reset(tfspec_segment *segment);

/** Where the next spectrum goes, n_fft floats; write it there, then tfspec_segment_push. */
float *tfspec_segment_slot(tfspec_segment *segment);

/** Takes the spectrum in the slot as the newest column; the oldest one is forgotten. */
void tfspec_segment_push(tfspec_segment *segment);

/** Packed spectrum of a column, 0 = oldest. */
const float *tfspec_segment_column(const tfspec_segment *segment, uint32_t column);

/** Largest magnitude of the segment; 1 if it is silent. */
float tfspec_segment_level(const tfspec_segment *segment);

/** Writes the network's input as floats in [0, 1]: n_bins * n_frames of them. */
void tfspec_segment_input(const tfspec_segment *segment, float *input);

/** Writes the network's input in int8. */
void tfspec_segment_input_int8(const tfspec_segment *segment, tfspec_quantization quantization,
                               int8_t *input);

/**
 * Multiplies one column by one column of a mask.
 * @param column spectrum to use; differs from `mask_column` once frames followed the mask.
 * @param spectrum n_fft floats; gets the masked packed spectrum.
 */
void tfspec_segment_apply(const tfspec_segment *segment, uint32_t column, const tfspec_mask *mask,
                          uint32_t mask_column, tfspec_band_policy policy, float *spectrum);

TFSPEC_END_C

#endif /* TFSPEC_SEGMENT_H_ */
