#include "c_api.h"

#include <chrono>
#include <cstring>
#include <exception>

#include "engine.h"
#include "error.h"
#include "requests.h"

namespace {

using recsplit::Engine;
using recsplit::EngineSettings;
using recsplit::Json;

thread_local std::string last_error, last_words;

// Calls `f`; where it throws, keeps the reason and returns `otherwise`.
template <typename F, typename T>
T guarded(F f, T otherwise) {
  try {
    return f();
  } catch (const std::exception& error) {
    last_error = error.what();
  }
  return otherwise;
}

struct Answered {
  std::vector<int64_t> dims;
  std::vector<char> data;
};

struct Batch {
  Engine* engine;
  std::vector<recsplit::Request> requests;
  std::vector<std::vector<Answered>> answers;
};

std::string text_of(const Json& json, const char* key) {
  const Json* value = json.find(key);
  return value == nullptr || value->is_null() ? "" : value->text();
}

}  // namespace

const char* recsplit_error() { return last_error.c_str(); }

void* recsplit_open(const char* folder, const char* config, const char* settings) {
  return guarded(
      [&]() -> void* {
        const Json chosen = Json::parse(settings, "settings");
        EngineSettings all;
        all.onnxruntime = text_of(chosen, "onnxruntime");
        all.tables.loading = recsplit::loading_of(text_of(chosen, "tables"));
        all.tables.kernels = text_of(chosen, "kernels");
        if (const Json* sampled = chosen.find("sampled")) all.tables.sampled = static_cast<uint64_t>(sampled->integer(0, 1000000000));
        if (const Json* workers = chosen.find("workers")) all.workers = static_cast<int>(workers->integer(1, recsplit::kMostWorkers));
        return new Engine(folder, Json::parse(config, "config"), all);
      },
      static_cast<void*>(nullptr));
}

void recsplit_close(void* engine) { delete static_cast<Engine*>(engine); }

const char* recsplit_loaded(void* engine) {
  last_words = static_cast<Engine*>(engine)->loaded();
  return last_words.c_str();
}

void recsplit_set_workers(void* engine, int workers) { static_cast<Engine*>(engine)->workers().set(workers); }

uint64_t recsplit_busy_ns(void* engine) { return static_cast<Engine*>(engine)->workers().busy_ns(); }

void* recsplit_batch(void* engine, uint32_t requests) {
  return guarded(
      [&]() -> void* {
        auto batch = std::make_unique<Batch>();
        batch->engine = static_cast<Engine*>(engine);
        batch->requests.resize(requests);
        batch->answers.assign(requests, std::vector<Answered>(batch->engine->outputs().size()));
        return batch.release();
      },
      static_cast<void*>(nullptr));
}

int recsplit_input(void* handle, uint32_t request, const char* name, const char* dtype, const int64_t* dims, uint32_t rank, const void* data) {
  return guarded(
      [&] {
        auto* batch = static_cast<Batch*>(handle);
        const std::vector<recsplit::Tensor>& inputs = batch->engine->inputs();
        for (size_t number = 0; number < inputs.size(); ++number) {
          if (inputs[number].name != name) continue;
          recsplit::set_input(batch->requests.at(request), inputs, number, recsplit::dtype_of(dtype), dims, rank, data, batch->engine->batched());
          return 0;
        }
        throw recsplit::Error(std::string("the model has no input '") + name + "'", true);
      },
      1);
}

void recsplit_run(void* handle) {
  auto* batch = static_cast<Batch*>(handle);
  for (size_t number = 0; number < batch->requests.size(); ++number) {
    recsplit::Request& request = batch->requests[number];
    request.allocate = [batch, number](size_t output, const std::vector<int64_t>& dims) {
      Answered& answer = batch->answers[number][output];
      if (!answer.dims.empty()) throw recsplit::Error("an output's memory was asked for twice, which Triton doesn't bear");
      size_t bytes = recsplit::size_bytes(batch->engine->outputs()[output].dtype);
      for (const int64_t dim : dims) bytes *= static_cast<size_t>(dim);
      answer.dims = dims;
      answer.data.resize(bytes);
      return answer.data.data();
    };
    request.error = guarded([&] { return recsplit::require_inputs(request, batch->engine->inputs()), std::string(); }, std::string("?"));
    if (!request.error.empty()) request.error = last_error;
  }
  guarded([&] { return batch->engine->run(batch->requests), 0; }, 1);
}

const char* recsplit_failure(void* handle, uint32_t request) {
  const std::string& error = static_cast<Batch*>(handle)->requests[request].error;
  return error.empty() ? nullptr : error.c_str();
}

const void* recsplit_output(void* handle, uint32_t request, const char* name, const int64_t** dims, uint32_t* rank) {
  auto* batch = static_cast<Batch*>(handle);
  const std::vector<recsplit::Tensor>& outputs = batch->engine->outputs();
  for (size_t number = 0; number < outputs.size(); ++number) {
    if (outputs[number].name != name) continue;
    const Answered& answer = batch->answers[request][number];
    *dims = answer.dims.data();
    *rank = static_cast<uint32_t>(answer.dims.size());
    return answer.data.data();
  }
  return nullptr;
}

void recsplit_free(void* batch) { delete static_cast<Batch*>(batch); }

double recsplit_probe_random(const void* data, uint64_t size, uint64_t lines) {
  constexpr uint64_t kLine = 64, kAhead = 32;
  const char* memory = static_cast<const char*>(data);
  const uint64_t count = size / kLine;
  std::vector<uint64_t> places(lines + kAhead);
  uint64_t state = 88172645463325252ULL;
  for (uint64_t& place : places) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    place = state % count * kLine;
  }
  uint64_t sum = 0;
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t number = 0; number < lines; ++number) {
    __builtin_prefetch(memory + places[number + kAhead]);
    uint64_t word;
    std::memcpy(&word, memory + places[number], sizeof word);
    sum += word;
  }
  const double ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
  return sum == 1 ? -1 : ns / static_cast<double>(lines);  // the sum is looked at, or nothing would be read
}

double recsplit_probe_sequential(const void* data, uint64_t size) {
  const auto* words = static_cast<const uint64_t*>(data);
  uint64_t sums[8] = {};
  const auto start = std::chrono::steady_clock::now();
  for (uint64_t place = 0; place + 8 <= size / 8; place += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += words[place + lane];
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  uint64_t sum = 0;
  for (const uint64_t lane : sums) sum += lane;
  return sum == 1 ? -1 : static_cast<double>(size) / seconds;
}

int recsplit_pool(const char* name, const void* table, uint64_t rows, uint32_t dim, const char* dtype_name, const char* stored, const char* pooling_name, const int64_t* ids, uint64_t bags,
                  uint32_t length, void* out) {
  return guarded(
      [&] {
        const recsplit::DType dtype = recsplit::dtype_of(dtype_name);
        const std::string pooling_text = pooling_name;
        const recsplit::Pooling pooling = pooling_text == "mean" ? recsplit::Pooling::mean : pooling_text == "max" ? recsplit::Pooling::max : recsplit::Pooling::sum;
        const recsplit::RowFormat rows_as = recsplit::RowFormat::of(dtype, stored);
        const size_t bytes = dim * recsplit::size_bytes(dtype);
        // As the engine does it where all ids are inside: a block of rows is looked at, and then read.
        const uint64_t at_once = recsplit::rows_at_once(1 + length / recsplit::kSeldom);
        const recsplit::Kernels& chosen = recsplit::kernels(name);
        for (uint64_t bag = 0; bag < bags; bag += at_once) {
          recsplit::PoolJob job{};
          job.batch = std::min(at_once, bags - bag);
          if (!chosen.inside({ids + bag * length, false, length, length, job.batch}, 0, rows)) throw recsplit::Error("an id is outside the table");
          job.base = static_cast<const char*>(table);
          if (length > 0) job.ids = ids + bag * length;
          job.ids_stride = length;
          job.length = length;
          job.bags = 1;
          job.dim = dim;
          job.out = static_cast<char*>(out) + bag * bytes;
          job.out_stride = bytes;
          chosen.pool(job, rows_as, dtype, pooling);
        }
        return 0;
      },
      1);
}

int32_t recsplit_route(int64_t large_rows, int32_t large_variant, recsplit::RouteVariant* variants, int32_t variant_count, recsplit::RouteServer* servers, int32_t server_count,
                       int64_t rows, double within_ms, recsplit::RoutePart* parts, int32_t room) {
  return recsplit::route({large_rows, large_variant}, variants, variant_count, servers, server_count, rows, within_ms, parts, room);
}
