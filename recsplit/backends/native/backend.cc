// Triton's side: its entry points, requests in, responses out. No exception leaves this file: it would end the server.

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "control.h"
#include "engine.h"
#include "error.h"
#include "front.h"
#include "json.h"
#include "requests.h"
#include "triton_api.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

using recsplit::Engine;
using recsplit::EngineSettings;
using recsplit::Error;
using recsplit::Json;
using recsplit::TensorView;

constexpr uint32_t kApiMajor = 1, kApiMinor = 15;
constexpr size_t kAlignment = 8;
constexpr std::chrono::milliseconds kReported(500);

struct TableFamily {
  const char *name, *words;
};
constexpr TableFamily kTables[] = {
    {"recsplit_table_ids", "Ids that requests brought for the table"},
    {"recsplit_table_rows_read", "Rows that were read of the table: ids but for padding"},
    {"recsplit_table_bytes_read", "Bytes of the rows that were read of the table"},
    {"recsplit_table_cache_lines", "Cache lines in which the rows that were read lie, an estimate by the size of a row"},
    {"recsplit_table_unknown_ids", "Ids that are outside the table"},
};
constexpr int kTableFamilies = static_cast<int>(sizeof kTables / sizeof kTables[0]);

// Throws what a call of Triton's says.
void require(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  const std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw Error(message);
}

void forget(TRITONSERVER_Error* error) {
  if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

TRITONSERVER_Error* error_of(const std::string& message, bool clients, bool unavailable = false) {
  if (unavailable) return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_UNAVAILABLE, message.c_str());
  return TRITONSERVER_ErrorNew(clients ? TRITONSERVER_ERROR_INVALID_ARG : TRITONSERVER_ERROR_INTERNAL, message.c_str());
}

template <typename F>
TRITONSERVER_Error* guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const std::exception& error) {
    return error_of(error.what(), true);
  }
}

uint64_t now_ns() { return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()); }

Json json_of(TRITONSERVER_Message* message, const char* origin) {
  const char* base = nullptr;
  size_t size = 0;
  require(TRITONSERVER_MessageSerializeToJson(message, &base, &size));
  return Json::parse({base, size}, origin);
}

// One series of a model's. A server without metrics has none, and nothing else is lost.
class Series {
 public:
  // `what`: one more label, and its value.
  Series(TRITONSERVER_MetricFamily* family, const std::string& model, const std::string& version, const char* what = "", const std::string& which = "") {
    if (family == nullptr) return;
    TRITONSERVER_Parameter* labels[3] = {TRITONSERVER_ParameterNew("model", TRITONSERVER_PARAMETER_STRING, model.c_str()),
                                         TRITONSERVER_ParameterNew("version", TRITONSERVER_PARAMETER_STRING, version.c_str()),
                                         TRITONSERVER_ParameterNew(*what == '\0' ? "none" : what, TRITONSERVER_PARAMETER_STRING, which.c_str())};
    forget(TRITONSERVER_MetricNew(&metric_, family, const_cast<const TRITONSERVER_Parameter**>(labels), *what == '\0' ? 2 : 3));
    for (TRITONSERVER_Parameter* label : labels) TRITONSERVER_ParameterDelete(label);
  }
  ~Series() {
    if (metric_ != nullptr) forget(TRITONSERVER_MetricDelete(metric_));
  }
  Series(const Series&) = delete;
  Series& operator=(const Series&) = delete;
  void add(double value) {
    if (metric_ != nullptr) forget(TRITONSERVER_MetricIncrement(metric_, value));
  }
  void set(double value) {
    if (metric_ != nullptr) forget(TRITONSERVER_MetricSet(metric_, value));
  }

 private:
  TRITONSERVER_Metric* metric_ = nullptr;
};

// What a front tells of its shards elsewhere, as backends/remote/remote_metrics.py does of each: of one replica, and of all together.
constexpr TableFamily kReplicas[] = {
    {"recsplit_remote_calls_answered", "Calls of a shard's replica that were answered"},
    {"recsplit_remote_calls_failed", "Calls of a shard's replica that failed, whether another one answered or not"},
    {"recsplit_remote_call_duration_us", "Time that answered calls took, summed, in us"},
};
constexpr TableFamily kShards[] = {
    {"recsplit_remote_retries", "Calls repeated on another replica after a failure"},
    {"recsplit_remote_hedges", "Calls sent to a second replica beside a slow first one"},
    {"recsplit_remote_calls_lost", "Calls that no replica answered: their requests got an error"},
    {"recsplit_remote_calls_skipped", "Batches that no call was needed for: none of their rows lies in the shard"},
    {"recsplit_remote_rows", "Rows that were asked for"},
    {"recsplit_remote_requests", "Requests of clients that were looked at for rows of the shard"},
};
constexpr int kReplicaFamilies = static_cast<int>(sizeof kReplicas / sizeof kReplicas[0]), kShardFamilies = static_cast<int>(sizeof kShards / sizeof kShards[0]);

struct Model;

struct Backend {
  EngineSettings settings;
  recsplit::Registry registry;
  std::unique_ptr<recsplit::Control> control;
  TRITONSERVER_MetricFamily* workers = nullptr;
  TRITONSERVER_MetricFamily* busy = nullptr;
  TRITONSERVER_MetricFamily* of_tables[kTableFamilies] = {};
  TRITONSERVER_MetricFamily *of_replicas[kReplicaFamilies] = {}, *of_shards[kShardFamilies] = {};
  TRITONSERVER_MetricFamily* up = nullptr;

  std::mutex reporting;
  std::condition_variable ending;
  bool is_ending = false;
  std::vector<Model*> models;
  std::thread reporter;

  void report_tables();
};

// Counts that only rise, as series of one model.
class Counters {
 public:
  Counters(TRITONSERVER_MetricFamily* const* families, int count, const std::string& model, const std::string& version, const char* what = "", const std::string& which = "") {
    for (int number = 0; number < count; ++number) series_.push_back(std::make_unique<Series>(families[number], model, version, what, which));
    reported_.resize(series_.size(), 0);
  }

  void report(const std::vector<uint64_t>& now) {
    for (size_t number = 0; number < now.size(); ++number) {
      if (now[number] == reported_[number]) continue;
      series_[number]->add(static_cast<double>(now[number] - reported_[number]));
      reported_[number] = now[number];
    }
  }

 private:
  std::vector<std::unique_ptr<Series>> series_;
  std::vector<uint64_t> reported_;
};

// A table's series; lines are an estimate: of each row as many as it lies in, the mean over rows that lie one after the other.
class TableSeries {
 public:
  TableSeries(const Backend& backend, const std::string& model, const std::string& version, recsplit::TableAccess& access)
      : access_(access), counters_(backend.of_tables, kTableFamilies, model, version, "table", access.name) {
    for (size_t place = 0; access.row_bytes > 0 && place < kLine; ++place) lines_a_row_ += static_cast<double>((place * access.row_bytes % kLine + access.row_bytes - 1) / kLine + 1) / kLine;
  }

  void report() {
    const uint64_t read = access_.read.load(std::memory_order_relaxed);
    const auto lines = static_cast<uint64_t>(static_cast<double>(read) * lines_a_row_);
    counters_.report({access_.ids.load(std::memory_order_relaxed), read, read * access_.row_bytes, lines, access_.unknown.load(std::memory_order_relaxed)});
  }

 private:
  static constexpr size_t kLine = 64;
  recsplit::TableAccess& access_;
  Counters counters_;
  double lines_a_row_ = 0;
};

// The series of a shard elsewhere, and of its replicas as they come and go.
class ShardSeries {
 public:
  ShardSeries(const Backend& backend, const std::string& version, const recsplit::Remote::Shard& shard)
      : backend_(backend), version_(version), shard_(shard), counters_(backend.of_shards, kShardFamilies, shard.model, version) {}

  void report() {
    const recsplit::Replicas& replicas = *shard_.replicas;
    counters_.report({replicas.retries, replicas.hedges, replicas.lost, shard_.skipped, shard_.rows, shard_.requests});
    std::map<std::string, std::unique_ptr<OfReplica>> there;
    for (const auto& replica : replicas.all()) {
      auto& kept = of_replicas_[replica->name];
      if (kept == nullptr) kept = std::make_unique<OfReplica>(backend_, shard_.model, version_, replica->name);
      kept->counters.report({replica->answered, replica->failed, replica->answered_us});
      if (const int well = replicas.is_well(*replica) ? 1 : 0; well != kept->well) kept->up.set(kept->well = well);
      there[replica->name] = std::move(kept);
    }
    of_replicas_ = std::move(there);
  }

 private:
  struct OfReplica {
    OfReplica(const Backend& backend, const std::string& model, const std::string& version, const std::string& name)
        : counters(backend.of_replicas, kReplicaFamilies, model, version, "replica", name), up(backend.up, model, version, "replica", name) {}
    Counters counters;
    Series up;
    int well = -1;
  };

  const Backend& backend_;
  std::string version_;
  const recsplit::Remote::Shard& shard_;
  Counters counters_;
  std::map<std::string, std::unique_ptr<OfReplica>> of_replicas_;
};

struct Model {
  Model(Backend& of, const std::string& called, uint64_t number, const std::string& folder, const Json& config, const EngineSettings& settings)
      : backend(of), name(called), version(std::to_string(number)), engine(folder + "/" + version, config, settings), workers(of.workers, called, version), busy(of.busy, called, version) {
    if (const recsplit::Lookups* lookups = engine.lookups()) {
      for (const auto& table : lookups->access().tables()) tables.push_back(std::make_unique<TableSeries>(of, called, version, *table));
    }
    if (const recsplit::Front* front = engine.front()) {
      for (const auto& shard : front->remote().shards()) {
        shards.push_back(std::make_unique<ShardSeries>(of, version, *shard));
        const std::string about = called + ": shard " + shard->model + ": ";
        shard->replicas->tell([about](const std::string& words) { forget(TRITONSERVER_LogMessage(TRITONSERVER_LOG_WARN, __FILE__, __LINE__, (about + words).c_str())); });
      }
    }
    backend.registry.add(name, &engine);
    const std::lock_guard<std::mutex> lock(backend.reporting);
    backend.models.push_back(this);
    report();
  }
  ~Model() {
    {
      const std::lock_guard<std::mutex> lock(backend.reporting);
      backend.models.erase(std::find(backend.models.begin(), backend.models.end(), this));
    }
    backend.registry.remove(name, &engine);
  }

  void report() {
    const std::lock_guard<std::mutex> lock(reporting);
    const uint64_t busy_ns = engine.workers().busy_ns();
    busy.add(static_cast<double>(busy_ns - reported_ns) / 1e3);
    reported_ns = busy_ns;
    if (engine.workers().count() != reported_workers) workers.set(reported_workers = engine.workers().count());
  }

  // Whether clients may ask: until then requests are the warm-up's, at the start and when a version is loaded.
  bool serves(TRITONBACKEND_Model* handle) {
    if (is_ready) return true;
    TRITONSERVER_Server* server = nullptr;
    bool now = false;
    forget(TRITONBACKEND_ModelServer(handle, &server));
    forget(TRITONSERVER_ServerModelIsReady(server, name.c_str(), std::stoll(version), &now));
    return is_ready = now;
  }

  Backend& backend;
  std::string name, version;
  std::atomic<bool> is_ready{false};
  Engine engine;
  std::mutex reporting;
  Series workers, busy;
  uint64_t reported_ns = 0;
  int reported_workers = 0;
  std::vector<std::unique_ptr<TableSeries>> tables;
  std::vector<std::unique_ptr<ShardSeries>> shards;
};

// Each series of a table costs some 100 ns to bring up to date: once in a while, and not with every batch.
void Backend::report_tables() {
  std::unique_lock<std::mutex> lock(reporting);
  while (!ending.wait_for(lock, kReported, [this] { return is_ending; })) {
    for (Model* model : models) {
      for (const auto& table : model->tables) table->report();
      for (const auto& shard : model->shards) shard->report();
    }
  }
}

// NVIDIA's server has ONNX Runtime beside its onnxruntime backend; else it is wherever the system finds libraries.
std::string beside(TRITONBACKEND_Backend* backend) {
  const char* location = nullptr;
  TRITONBACKEND_ArtifactType type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
  require(TRITONBACKEND_BackendArtifacts(backend, &type, &location));
  const std::string path = std::string(location) + "/../onnxruntime/libonnxruntime.so";
  return access(path.c_str(), R_OK) == 0 ? path : "libonnxruntime.so";
}

std::string text_at(const Json& object, const char* key) {
  const Json* value = object.find(key);
  return value == nullptr ? "" : value->text();
}

uint64_t number_of(const std::string& text, uint64_t otherwise, const char* what) {
  if (text.empty()) return otherwise;
  char* end = nullptr;
  const unsigned long long number = std::strtoull(text.c_str(), &end, 10);
  if (*end != '\0' || text[0] == '-' || number > 1000000000) throw Error(std::string(what) + " is no number: '" + text.substr(0, 40) + "'");
  return number;
}

int workers_of(const Json& config, int otherwise) {
  const Json* parameters = config.find("parameters");
  const Json* threads = parameters == nullptr || parameters->is_null() ? nullptr : parameters->find("intra_op_thread_count");
  if (threads == nullptr) return otherwise;
  const std::string& text = threads->at("string_value").text();
  char* end = nullptr;
  const long count = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || count < 0 || count > recsplit::kMostWorkers) throw Error("intra_op_thread_count is no number of threads: '" + text.substr(0, 40) + "'");
  return count == 0 ? otherwise : static_cast<int>(count);
}

// A request on its way through: its response, and memory for inputs that don't lie in one piece.
struct Call {
  TRITONBACKEND_Request* request = nullptr;
  TRITONBACKEND_Response* response = nullptr;
  std::vector<std::unique_ptr<char[]>> copies;
  std::vector<std::string> asked;
};

void read_input(Call& call, recsplit::Request& request, const Engine& engine, size_t number) {
  const std::vector<recsplit::Tensor>& inputs = engine.inputs();
  TRITONBACKEND_Input* input = nullptr;
  require(TRITONBACKEND_RequestInput(call.request, inputs[number].name.c_str(), &input));
  const char* name = nullptr;
  int datatype = 0;
  const int64_t* shape = nullptr;
  uint32_t rank = 0, buffers = 0;
  uint64_t size = 0;
  require(TRITONBACKEND_InputProperties(input, &name, &datatype, &shape, &rank, &size, &buffers));
  recsplit::set_input(request, inputs, number, static_cast<recsplit::DType>(datatype), shape, rank, nullptr, engine.batched());
  TensorView& view = request.inputs[number];
  if (size != view.bytes()) throw Error("input '" + inputs[number].name + "' has " + std::to_string(size) + " bytes, and its shape makes " + std::to_string(view.bytes()), true);
  if (size == 0) return;
  char* copy = nullptr;
  uint64_t done = 0;
  for (uint32_t index = 0; index < buffers; ++index) {
    const void* data = nullptr;
    uint64_t part = 0;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    require(TRITONBACKEND_InputBuffer(input, index, &data, &part, &memory, &memory_id));
    if (memory == TRITONSERVER_MEMORY_GPU) throw Error("input '" + inputs[number].name + "' lies in a GPU's memory, and the engine reads the CPU's", true);
    if (buffers == 1 && reinterpret_cast<uintptr_t>(data) % kAlignment == 0) {
      view.data = const_cast<void*>(data);
      done = part;
      break;
    }
    if (copy == nullptr) {
      call.copies.emplace_back(new char[size]);
      copy = call.copies.back().get();
      view.data = copy;
    }
    if (part > size - done) throw Error("input '" + inputs[number].name + "' has more bytes than its shape", true);
    std::memcpy(copy + done, data, part);
    done += part;
  }
  if (done != size) throw Error("input '" + inputs[number].name + "' has fewer bytes than its shape", true);
}

char* allocate(Call& call, const recsplit::Tensor& tensor, const std::vector<int64_t>& dims) {
  bool is_asked = false;
  for (const std::string& name : call.asked) is_asked = is_asked || name == tensor.name;
  if (!is_asked) return nullptr;
  TRITONBACKEND_Output* output = nullptr;
  require(TRITONBACKEND_ResponseOutput(call.response, &output, tensor.name.c_str(), static_cast<int>(tensor.dtype), dims.data(), static_cast<uint32_t>(dims.size())));
  uint64_t size = recsplit::size_bytes(tensor.dtype);
  for (const int64_t dim : dims) size *= static_cast<uint64_t>(dim);
  void* data = nullptr;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  int64_t memory_id = 0;
  require(TRITONBACKEND_OutputBuffer(output, &data, size, &memory, &memory_id));
  if (memory == TRITONSERVER_MEMORY_GPU) throw Error("output '" + tensor.name + "' is wanted in a GPU's memory, and the engine writes the CPU's", true);
  static char nothing;
  return size == 0 ? &nothing : static_cast<char*>(data);
}

void begin(Call& call, recsplit::Request& request, const Engine& engine) {
  uint32_t count = 0;
  require(TRITONBACKEND_RequestOutputCount(call.request, &count));
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = nullptr;
    require(TRITONBACKEND_RequestOutputName(call.request, index, &name));
    call.asked.emplace_back(name);
  }
  for (size_t number = 0; number < engine.inputs().size(); ++number) read_input(call, request, engine, number);
  recsplit::require_inputs(request, engine.inputs());
  request.allocate = [&call, &engine](size_t output, const std::vector<int64_t>& dims) { return allocate(call, engine.outputs()[output], dims); };
}

// `begun`: set before the first response is sent: from then on Triton must not be told of an error, or it would answer them again.
void execute(Model& model, TRITONBACKEND_Model* handle, TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** all, uint32_t count, bool& begun) {
  const uint64_t exec_start = now_ns();
  const bool warms_up = !model.serves(handle);
  std::vector<Call> calls(count);
  std::vector<recsplit::Request> requests(count);
  for (uint32_t number = 0; number < count; ++number) {
    calls[number].request = all[number];
    try {
      require(TRITONBACKEND_ResponseNew(&calls[number].response, all[number]));
      begin(calls[number], requests[number], model.engine);
    } catch (const std::exception& error) {
      const auto* ours = dynamic_cast<const Error*>(&error);
      requests[number].error = error.what();
      requests[number].clients = ours != nullptr && ours->clients();
    }
  }
  const uint64_t compute_start = now_ns();
  try {
    model.engine.run(requests);
  } catch (const std::exception& error) {
    for (recsplit::Request& request : requests) request.error = error.what();
  }
  if (const recsplit::Lookups* lookups = model.engine.lookups(); lookups != nullptr && warms_up) lookups->access().begin_anew();
  const uint64_t compute_end = now_ns();
  begun = true;
  uint64_t rows = 0;
  for (uint32_t number = 0; number < count; ++number) {
    const recsplit::Request& request = requests[number];
    if (request.error.empty()) rows += request.rows;
    TRITONSERVER_Error* error = request.error.empty() ? nullptr : error_of(request.error, request.clients, request.unavailable);
    if (calls[number].response != nullptr) forget(TRITONBACKEND_ResponseSend(calls[number].response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
    forget(error);
  }
  const uint64_t exec_end = now_ns();
  if (rows > 0) forget(TRITONBACKEND_ModelInstanceReportBatchStatistics(instance, rows, exec_start, compute_start, compute_end, exec_end));
  model.report();
  for (uint32_t number = 0; number < count; ++number) {
    forget(TRITONBACKEND_ModelInstanceReportStatistics(instance, all[number], requests[number].error.empty(), exec_start, compute_start, compute_end, exec_end));
    forget(TRITONBACKEND_RequestRelease(all[number], TRITONSERVER_REQUEST_RELEASE_ALL));
  }
}

}  // namespace

EXPORT TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* handle) {
  return guarded([&] {
    uint32_t major = 0, minor = 0;
    require(TRITONBACKEND_ApiVersion(&major, &minor));
    if (major != kApiMajor || minor < kApiMinor) throw Error("this server's backend API is " + std::to_string(major) + "." + std::to_string(minor) + ", and recsplit needs 1.15 or a later 1");
    TRITONSERVER_Message* message = nullptr;
    require(TRITONBACKEND_BackendConfig(handle, &message));
    const Json config = json_of(message, "the backend's config");
    auto backend = std::make_unique<Backend>();
    if (const Json* chosen = config.find("cmdline")) {
      backend->settings.onnxruntime = text_at(*chosen, "onnxruntime");
      backend->settings.tables.loading = recsplit::loading_of(text_at(*chosen, "tables"));
      backend->settings.tables.interleave = text_at(*chosen, "interleave") == "true";
      backend->settings.tables.kernels = text_at(*chosen, "kernels");
      backend->settings.tables.sampled = number_of(text_at(*chosen, "sampled"), recsplit::kSampledStride, "sampled");
      const std::string control = text_at(*chosen, "control");
      if (!control.empty()) backend->control = std::make_unique<recsplit::Control>(control, backend->registry);
    }
    if (backend->settings.onnxruntime.empty()) backend->settings.onnxruntime = beside(handle);
    backend->settings.workers = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    forget(TRITONSERVER_MetricFamilyNew(&backend->workers, TRITONSERVER_METRIC_KIND_GAUGE, "recsplit_workers", "Threads of the engine that may compute for the model at a time"));
    forget(TRITONSERVER_MetricFamilyNew(&backend->busy, TRITONSERVER_METRIC_KIND_COUNTER, "recsplit_worker_busy_us", "Time that the engine's workers have computed for the model, us"));
    for (int family = 0; family < kTableFamilies; ++family) {
      forget(TRITONSERVER_MetricFamilyNew(&backend->of_tables[family], TRITONSERVER_METRIC_KIND_COUNTER, kTables[family].name, kTables[family].words));
    }
    for (int family = 0; family < kReplicaFamilies; ++family) {
      forget(TRITONSERVER_MetricFamilyNew(&backend->of_replicas[family], TRITONSERVER_METRIC_KIND_COUNTER, kReplicas[family].name, kReplicas[family].words));
    }
    for (int family = 0; family < kShardFamilies; ++family) {
      forget(TRITONSERVER_MetricFamilyNew(&backend->of_shards[family], TRITONSERVER_METRIC_KIND_COUNTER, kShards[family].name, kShards[family].words));
    }
    forget(TRITONSERVER_MetricFamilyNew(&backend->up, TRITONSERVER_METRIC_KIND_GAUGE, "recsplit_remote_replica_up", "1: the replica is asked; 0: it failed, and is avoided until a probe is answered"));
    Backend* of = backend.get();
    of->reporter = std::thread([of] { of->report_tables(); });
    require(TRITONBACKEND_BackendSetState(handle, backend.release()));
  });
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_Finalize(TRITONBACKEND_Backend* handle) {
  return guarded([&] {
    void* state = nullptr;
    require(TRITONBACKEND_BackendState(handle, &state));
    const std::unique_ptr<Backend> backend(static_cast<Backend*>(state));
    if (backend == nullptr) return;
    {
      const std::lock_guard<std::mutex> lock(backend->reporting);
      backend->is_ending = true;
    }
    backend->ending.notify_all();
    backend->reporter.join();
    std::vector<TRITONSERVER_MetricFamily*> families(backend->of_tables, backend->of_tables + kTableFamilies);
    families.insert(families.end(), backend->of_replicas, backend->of_replicas + kReplicaFamilies);
    families.insert(families.end(), backend->of_shards, backend->of_shards + kShardFamilies);
    families.insert(families.end(), {backend->workers, backend->busy, backend->up});
    for (TRITONSERVER_MetricFamily* family : families) {
      if (family != nullptr) forget(TRITONSERVER_MetricFamilyDelete(family));
    }
  });
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(TRITONBACKEND_Backend*, TRITONBACKEND_BackendAttribute* attribute) {
  // One instance: what computes at a time is the workers' number, and requests that come meanwhile make the next batch.
  return TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(attribute, TRITONSERVER_INSTANCEGROUPKIND_CPU, 1, nullptr, 0);
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* handle) {
  return guarded([&] {
    TRITONBACKEND_Backend* of = nullptr;
    void* state = nullptr;
    require(TRITONBACKEND_ModelBackend(handle, &of));
    require(TRITONBACKEND_BackendState(of, &state));
    auto& backend = *static_cast<Backend*>(state);
    const char *name = nullptr, *location = nullptr;
    uint64_t version = 0;
    TRITONBACKEND_ArtifactType type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
    require(TRITONBACKEND_ModelName(handle, &name));
    require(TRITONBACKEND_ModelVersion(handle, &version));
    require(TRITONBACKEND_ModelRepository(handle, &type, &location));
    TRITONSERVER_Message* message = nullptr;
    require(TRITONBACKEND_ModelConfig(handle, 1, &message));
    const std::unique_ptr<TRITONSERVER_Message, TRITONSERVER_Error* (*)(TRITONSERVER_Message*)> held(message, TRITONSERVER_MessageDelete);
    const Json config = json_of(message, "the model's config");
    EngineSettings settings = backend.settings;
    settings.workers = workers_of(config, settings.workers);
    auto model = std::make_unique<Model>(backend, name, version, location, config, settings);
    const std::string words = model->name + " version " + model->version + ": " + model->engine.loaded() + ", " + std::to_string(model->engine.workers().count()) + " workers";
    forget(TRITONSERVER_LogMessage(TRITONSERVER_LOG_INFO, __FILE__, __LINE__, words.c_str()));
    require(TRITONBACKEND_ModelSetState(handle, model.release()));
  });
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* handle) {
  return guarded([&] {
    void* state = nullptr;
    require(TRITONBACKEND_ModelState(handle, &state));
    delete static_cast<Model*>(state);
  });
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance* handle) {
  return guarded([&] {
    TRITONSERVER_InstanceGroupKind kind = TRITONSERVER_INSTANCEGROUPKIND_CPU;
    require(TRITONBACKEND_ModelInstanceKind(handle, &kind));
    if (kind != TRITONSERVER_INSTANCEGROUPKIND_CPU) throw Error("the engine runs on KIND_CPU only");
  });
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* handle, TRITONBACKEND_Request** requests, const uint32_t count) {
  TRITONBACKEND_Model* model = nullptr;
  void* state = nullptr;
  if (TRITONSERVER_Error* error = TRITONBACKEND_ModelInstanceModel(handle, &model)) return error;
  if (TRITONSERVER_Error* error = TRITONBACKEND_ModelState(model, &state)) return error;
  bool begun = false;
  try {
    execute(*static_cast<Model*>(state), model, handle, requests, count, begun);
  } catch (...) {
    if (!begun) return error_of("the server ran out of memory", false);  // nothing has been sent: Triton fails them all
  }
  return nullptr;
}
