/**
 * @file audio_ring.h
 * Ring buffer of 16-bit samples between one interrupt and the main loop: one side writes, the
 * other reads, no lock. Uses the atomic built-ins of GCC, Clang and Arm Compiler 6.
 */
#ifndef TFSPEC_EXAMPLE_AUDIO_RING_H_
#define TFSPEC_EXAMPLE_AUDIO_RING_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Samples that a ring holds, a power of two. It must hold what arrives while the network runs. */
#ifndef AUDIO_RING_SAMPLES
#define AUDIO_RING_SAMPLES 8192u
#endif

typedef struct {
  int16_t samples[AUDIO_RING_SAMPLES];
  uint32_t written; /**< Counts all samples ever written; wraps. Changed by the writer only. */
  uint32_t read;    /**< Counts all samples ever read. Changed by the reader only. */
} audio_ring;

/** Samples that can be read. */
static inline uint32_t audio_ring_used(const audio_ring *ring) {
  return __atomic_load_n(&ring->written, __ATOMIC_ACQUIRE) -
         __atomic_load_n(&ring->read, __ATOMIC_ACQUIRE);
}

/** Writes all `count` samples, or none and returns false if they do not fit (an overrun). */
static inline bool audio_ring_write(audio_ring *ring, const int16_t *samples, uint32_t count) {
  if (count > AUDIO_RING_SAMPLES - audio_ring_used(ring)) return false;
  const uint32_t start = ring->written;
  for (uint32_t i = 0u; i < count; ++i) {
    ring->samples[(start + i) % AUDIO_RING_SAMPLES] = samples[i];
  }
  __atomic_store_n(&ring->written, start + count, __ATOMIC_RELEASE);
  return true;
}

/** Reads exactly `count` samples, or none and returns false if there are fewer. */
static inline bool audio_ring_read(audio_ring *ring, int16_t *samples, uint32_t count) {
  if (count > audio_ring_used(ring)) return false;
  const uint32_t start = ring->read;
  for (uint32_t i = 0u; i < count; ++i) {
    samples[i] = ring->samples[(start + i) % AUDIO_RING_SAMPLES];
  }
  __atomic_store_n(&ring->read, start + count, __ATOMIC_RELEASE);
  return true;
}

#endif /* TFSPEC_EXAMPLE_AUDIO_RING_H_ */
