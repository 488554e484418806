/* Runs a model on one raw input file and writes the raw output file.
 *
 *   run_model MODEL.tflite INPUT.bin OUTPUT.bin [THREADS [RUNS]]
 *
 * Files hold the tensor's values one after another, last axis fastest, little-endian, as in the
 * test vectors of an export. Prints both ends, latency and peak memory; exit status 2 and one line
 * on standard error when something is wrong.
 */
#define _POSIX_C_SOURCE 200809L

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "tfspec_model.h"

static const char *type_name(int type) {
  switch (type) {
    case LITERT_FLOAT32: return "float32";
    case LITERT_INT32: return "int32";
    case LITERT_UINT8: return "uint8";
    case LITERT_INT16: return "int16";
    case LITERT_INT8: return "int8";
    default: return "another type";
  }
}

static void print_end(const char *role, const tfspec_end *end) {
  unsigned int axis;
  printf("%s %s: %s", role, end->name, type_name(end->type.element_type));
  for (axis = 0; axis < end->type.layout.rank; ++axis) {
    printf("%s%ld", axis == 0 ? " " : "x", (long)end->type.layout.dimensions[axis]);
  }
  printf(", %lu bytes\n", (unsigned long)end->bytes);
}

static double seconds_now(void) {
  struct timespec now;
  (void)clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int fail(const char *path, tfspec_error error) {
  if (error.status == -1) {
    fprintf(stderr, "error: %s: LiteRT did not %s\n", path, error.step);
  } else {
    fprintf(stderr, "error: %s: LiteRT could not %s (status %d)\n", path, error.step,
            error.status);
  }
  return 2;
}

/* Reads the input file straight into the input tensor. */
static int read_input(tfspec_model *model, const char *path) {
  void *memory = NULL;
  size_t count;
  int longer;
  tfspec_error error;
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    fprintf(stderr, "error: %s: cannot be read\n", path);
    return 2;
  }
  error = tfspec_end_lock(&model->input, LITERT_LOCK_WRITE, &memory);
  if (error.status != 0) {
    (void)fclose(file);
    return fail(path, error);
  }
  count = fread(memory, 1, model->input.bytes, file);
  longer = count == model->input.bytes && fgetc(file) != EOF;
  (void)fclose(file);
  error = tfspec_end_unlock(&model->input);
  if (error.status != 0) return fail(path, error);
  if (count != model->input.bytes || longer) {
    fprintf(stderr, "error: %s: must hold %lu bytes. Received: %s%lu\n", path,
            (unsigned long)model->input.bytes, longer ? "more than " : "", (unsigned long)count);
    return 2;
  }
  return 0;
}

static int write_output(tfspec_model *model, const char *path) {
  void *memory = NULL;
  size_t count = 0;
  tfspec_error error = tfspec_end_lock(&model->output, LITERT_LOCK_READ, &memory);
  FILE *file;
  int closed = EOF;
  if (error.status != 0) return fail(path, error);
  file = fopen(path, "wb");
  if (file != NULL) {
    count = fwrite(memory, 1, model->output.bytes, file);
    closed = fclose(file);
  }
  error = tfspec_end_unlock(&model->output);
  if (error.status != 0) return fail(path, error);
  if (count != model->output.bytes || closed != 0) {
    fprintf(stderr, "error: %s: cannot be written\n", path);
    return 2;
  }
  return 0;
}

/* Greatest resident memory so far, 0 if Linux does not say. Not ru_maxrss: a program inherits that
   from the one that started it. */
static double peak_memory_mb(void) {
  char line[128];
  long kilobytes = 0;
  FILE *file = fopen("/proc/self/status", "r");
  if (file == NULL) return 0.0;
  while (fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, "VmHWM: %ld", &kilobytes) == 1) break;
  }
  (void)fclose(file);
  return (double)kilobytes / 1024.0;
}

static int measure(tfspec_model *model, const char *path, long runs) {
  double least = 0.0, total = 0.0;
  long run;
  for (run = 0; run < runs; ++run) {
    const double start = seconds_now();
    const tfspec_error error = tfspec_model_run(model);
    const double elapsed = seconds_now() - start;
    if (error.status != 0) return fail(path, error);
    least = run == 0 || elapsed < least ? elapsed : least;
    total += elapsed;
  }
  printf("%ld runs: least %.3f ms, mean %.3f ms; peak memory %.0f MB\n", runs, 1e3 * least,
         1e3 * total / (double)runs, peak_memory_mb());
  return 0;
}

/* A whole number from 1 to 1000, or 0 for anything else. */
static long count_of(const char *text) {
  char *end = NULL;
  const long value = strtol(text, &end, 10);
  return *text != '\0' && *end == '\0' && value >= 1 && value <= 1000 ? value : 0;
}

int main(int argc, char **argv) {
  const long threads = argc > 4 ? count_of(argv[4]) : 1;
  const long runs = argc > 5 ? count_of(argv[5]) : 1;
  tfspec_model model;
  tfspec_error error;
  int status;
  if (argc < 4 || argc > 6 || threads == 0 || runs == 0) {
    fprintf(stderr, "error: usage: run_model MODEL.tflite INPUT.bin OUTPUT.bin [THREADS [RUNS]]\n");
    return 2;
  }
  error = tfspec_model_open(&model, argv[1], (int)threads);
  status = error.status != 0 ? fail(argv[1], error) : 0;
  if (status == 0) {
    print_end("input", &model.input);
    print_end("output", &model.output);
    status = read_input(&model, argv[2]);
  }
  if (status == 0) status = measure(&model, argv[1], runs);
  if (status == 0) status = write_output(&model, argv[3]);
  tfspec_model_close(&model);
  return status;
}
