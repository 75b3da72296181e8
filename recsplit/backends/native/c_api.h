// The engine for callers in this process: the proof, tests, benchmarks and fuzzers, which call it from Python by ctypes.
//
// No function throws. Where one fails it returns nullptr (or what says so), and recsplit_error() has the reason, of this thread.
#pragma once

#include <cstdint>

#include "route.h"

#define RECSPLIT_EXPORT extern "C" __attribute__((visibility("default")))

RECSPLIT_EXPORT const char* recsplit_error();

// A model from its version folder. `config`: Triton's, as JSON. `settings`: JSON {"onnxruntime", "workers", "tables", "kernels"}.
RECSPLIT_EXPORT void* recsplit_open(const char* folder, const char* config, const char* settings);
RECSPLIT_EXPORT void recsplit_close(void* engine);
// What was loaded, in words, until the next call of this thread.
RECSPLIT_EXPORT const char* recsplit_loaded(void* engine);
RECSPLIT_EXPORT void recsplit_set_workers(void* engine, int workers);
RECSPLIT_EXPORT uint64_t recsplit_busy_ns(void* engine);

// A batch of requests. An input's `dims` have the batch first; its data is the caller's until the batch is freed.
RECSPLIT_EXPORT void* recsplit_batch(void* engine, uint32_t requests);
RECSPLIT_EXPORT int recsplit_input(void* batch, uint32_t request, const char* name, const char* dtype, const int64_t* dims, uint32_t rank, const void* data);
RECSPLIT_EXPORT void recsplit_run(void* batch);
// Why a request failed; nullptr where it didn't.
RECSPLIT_EXPORT const char* recsplit_failure(void* batch, uint32_t request);
// An output's data and dims, of which there are *rank; nullptr where there is none.
RECSPLIT_EXPORT const void* recsplit_output(void* batch, uint32_t request, const char* name, const int64_t** dims, uint32_t* rank);
RECSPLIT_EXPORT void recsplit_free(void* batch);

// What this machine's memory gives at most, for benchmarks: nanoseconds a cache line that is read at random, so many of them, each asked
// for long before; and bytes a second, read one after the other.
RECSPLIT_EXPORT double recsplit_probe_random(const void* data, uint64_t size, uint64_t lines);
RECSPLIT_EXPORT double recsplit_probe_sequential(const void* data, uint64_t size);

// Pools `bags` bags of `length` rows of a table at once, by the kernels of that name, for benchmarks: ids INT64 [bags * length].
RECSPLIT_EXPORT int recsplit_pool(const char* kernels, const void* table, uint64_t rows, uint32_t dim, const char* dtype, const char* stored, const char* pooling, const int64_t* ids,
                                  uint64_t bags, uint32_t length, void* out);

// A router's decision (route.h), for its tests and for simulators.
RECSPLIT_EXPORT int32_t recsplit_route(int64_t large_rows, int32_t large_variant, recsplit::RouteVariant* variants, int32_t variant_count, recsplit::RouteServer* servers,
                                       int32_t server_count, int64_t rows, double within_ms, recsplit::RoutePart* parts, int32_t room);
