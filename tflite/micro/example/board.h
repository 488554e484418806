/**
 * @file board.h
 * What the example needs from your board; implement these four functions.
 */
#ifndef TFSPEC_EXAMPLE_BOARD_H_
#define TFSPEC_EXAMPLE_BOARD_H_

#include "audio_ring.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Starts the codec at `sample_rate`, mono. From now on its interrupt writes what it records to
 * `capture` and plays what it reads from `playback` (silence while that is empty).
 */
bool board_start(uint32_t sample_rate, audio_ring *capture, audio_ring *playback);

/** Sleeps until samples arrived (WFI). False ends the program, which only a test wants. */
bool board_wait(void);

/** Called when samples were lost: the processor is too slow, or the ring too small. */
void board_overrun(void);

/** Start-up or the network failed: blink, print, reset. `step` says where, `code` why. */
void board_fail(const char *step, int code);

#ifdef __cplusplus
}
#endif

#endif /* TFSPEC_EXAMPLE_BOARD_H_ */
