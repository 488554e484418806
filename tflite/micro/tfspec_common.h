/**
 * @file tfspec_common.h
 * What every part of the front end shares: status codes and C linkage.
 *
 * The library is C99, takes no heap and has no global that is not constant: all state lives in
 * structs and buffers of the caller, whose sizes are compile-time macros.
 */
#ifndef TFSPEC_COMMON_H_
#define TFSPEC_COMMON_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define TFSPEC_BEGIN_C extern "C" {
#define TFSPEC_END_C }
#else
#define TFSPEC_BEGIN_C
#define TFSPEC_END_C
#endif

TFSPEC_BEGIN_C

/** Result of every function that checks its arguments. */
typedef enum {
  TFSPEC_OK = 0,
  TFSPEC_NULL_POINTER,     /**< A buffer that the function needs is NULL. */
  TFSPEC_BAD_FFT_SIZE,     /**< Not a power of two from 32 to 4096. */
  TFSPEC_BAD_HOP,          /**< Hop of 0 or above the FFT size, or samples that no window covers. */
  TFSPEC_BAD_BINS,         /**< More bins than the spectrum has, or none. */
  TFSPEC_BAD_FRAMES,       /**< No frames, or step + lookahead above the segment's frames. */
  TFSPEC_BAD_QUANTIZATION, /**< Scale not above 0, or zero point outside int8. */
  TFSPEC_BAD_MEL_BANK,     /**< A band that reaches beyond the spectrum, or no bands. */
  TFSPEC_INVOKE_FAILED     /**< The network's callback reported an error. */
} tfspec_status;

TFSPEC_END_C

#endif /* TFSPEC_COMMON_H_ */
