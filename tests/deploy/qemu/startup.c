/*
 * Start-up code of the test programs on QEMU's Cortex-M boards: vector table, memory, FPU, and
 * semihosting for files and the exit code. Not part of the library.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t __data_start, __data_end, __data_load, __bss_start, __bss_end, __stack_top;

int main(void);
void initialise_monitor_handles(void); /* opens the semihosting streams (librdimon) */
void reset_handler(void);

static void fault_handler(void) { _Exit(70); }

typedef void (*handler)(void);

__attribute__((section(".vectors"), used)) static const handler k_vectors[16] = {
    (handler)(uintptr_t)&__stack_top, reset_handler, fault_handler, fault_handler, fault_handler,
    fault_handler,                    fault_handler, fault_handler, fault_handler, fault_handler,
    fault_handler,                    fault_handler, fault_handler, fault_handler, fault_handler,
    fault_handler,
};

void reset_handler(void) {
  volatile uint32_t *const cpacr = (volatile uint32_t *)0xE000ED88u;
  *cpacr |= 0xFu << 20; /* coprocessors 10 and 11: FPU and MVE */
  __asm volatile("dsb\n isb" ::: "memory");
  memcpy(&__data_start, &__data_load, (size_t)((char *)&__data_end - (char *)&__data_start));
  memset(&__bss_start, 0, (size_t)((char *)&__bss_end - (char *)&__bss_start));
  initialise_monitor_handles();
  exit(main());
}
