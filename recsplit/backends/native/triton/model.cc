#include "model.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "error.h"
#include "front.h"
#include "requests.h"

namespace recsplit {

// A table's series; lines are an estimate: of each row as many as it lies in, the mean over rows that lie one after the other.
class TableSeries {
 public:
  TableSeries(const Backend& backend, const std::string& model, const std::string& version, TableAccess& access)
      : access_(access), counters_(backend.tables, model, version, "table", access.name) {
    for (size_t place = 0; access.row_bytes > 0 && place < kLine; ++place) lines_a_row_ += static_cast<double>((place * access.row_bytes % kLine + access.row_bytes - 1) / kLine + 1) / kLine;
  }

  void report() {
    const uint64_t read = access_.read.load(std::memory_order_relaxed);
    const auto lines = static_cast<uint64_t>(static_cast<double>(read) * lines_a_row_);
    counters_.report({access_.ids.load(std::memory_order_relaxed), read, read * access_.row_bytes, lines, access_.unknown.load(std::memory_order_relaxed)});
  }

 private:
  static constexpr size_t kLine = 64;
  TableAccess& access_;
  Counters counters_;
  double lines_a_row_ = 0;
};

// The series of a shard elsewhere, and of its replicas as they come and go.
class ShardSeries {
 public:
  ShardSeries(const Backend& backend, const std::string& version, const Remote::Shard& shard)
      : backend_(backend), version_(version), shard_(shard), counters_(backend.shards, shard.model, version) {}

  void report() {
    const Replicas& replicas = *shard_.replicas;
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
        : counters(backend.replicas, model, version, "replica", name), up(backend.up, model, version, "replica", name) {}
    Counters counters;
    Series up;
    int well = -1;
  };

  const Backend& backend_;
  std::string version_;
  const Remote::Shard& shard_;
  Counters counters_;
  std::map<std::string, std::unique_ptr<OfReplica>> of_replicas_;
};

namespace {

constexpr size_t kAlignment = 8;

int workers_of(const Json& config, int otherwise) {
  const Json* parameters = config.find("parameters");
  const Json* threads = parameters == nullptr || parameters->is_null() ? nullptr : parameters->find("intra_op_thread_count");
  if (threads == nullptr) return otherwise;
  const std::string& text = threads->at("string_value").text();
  char* end = nullptr;
  const long count = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || count < 0 || count > kMostWorkers) throw Error("intra_op_thread_count is no number of threads: '" + text.substr(0, 40) + "'");
  return count == 0 ? otherwise : static_cast<int>(count);
}

EngineSettings settings_of(const Backend& backend, const Json& config) {
  EngineSettings settings = backend.settings;
  settings.workers = workers_of(config, settings.workers);
  return settings;
}

// A request on its way through: its response, and memory for inputs that don't lie in one piece.
struct Call {
  TRITONBACKEND_Request* request = nullptr;
  TRITONBACKEND_Response* response = nullptr;
  std::vector<std::unique_ptr<char[]>> copies;
  std::vector<std::string> asked;
};

void read_input(Call& call, Request& request, const Engine& engine, size_t number) {
  const std::vector<Tensor>& inputs = engine.inputs();
  TRITONBACKEND_Input* input = nullptr;
  require(TRITONBACKEND_RequestInput(call.request, inputs[number].name.c_str(), &input));
  const char* name = nullptr;
  int datatype = 0;
  const int64_t* shape = nullptr;
  uint32_t rank = 0, buffers = 0;
  uint64_t size = 0;
  require(TRITONBACKEND_InputProperties(input, &name, &datatype, &shape, &rank, &size, &buffers));
  set_input(request, inputs, number, static_cast<DType>(datatype), shape, rank, nullptr, engine.batched());
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

char* allocate(Call& call, const Tensor& tensor, const std::vector<int64_t>& dims) {
  bool is_asked = false;
  for (const std::string& name : call.asked) is_asked = is_asked || name == tensor.name;
  if (!is_asked) return nullptr;
  TRITONBACKEND_Output* output = nullptr;
  require(TRITONBACKEND_ResponseOutput(call.response, &output, tensor.name.c_str(), static_cast<int>(tensor.dtype), dims.data(), static_cast<uint32_t>(dims.size())));
  uint64_t size = size_bytes(tensor.dtype);
  for (const int64_t dim : dims) size *= static_cast<uint64_t>(dim);
  void* data = nullptr;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  int64_t memory_id = 0;
  require(TRITONBACKEND_OutputBuffer(output, &data, size, &memory, &memory_id));
  if (memory == TRITONSERVER_MEMORY_GPU) throw Error("output '" + tensor.name + "' is wanted in a GPU's memory, and the engine writes the CPU's", true);
  static char nothing;
  return size == 0 ? &nothing : static_cast<char*>(data);
}

void begin(Call& call, Request& request, const Engine& engine) {
  uint32_t count = 0;
  require(TRITONBACKEND_RequestOutputCount(call.request, &count));
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = nullptr;
    require(TRITONBACKEND_RequestOutputName(call.request, index, &name));
    call.asked.emplace_back(name);
  }
  for (size_t number = 0; number < engine.inputs().size(); ++number) read_input(call, request, engine, number);
  require_inputs(request, engine.inputs());
  request.allocate = [&call, &engine](size_t output, const std::vector<int64_t>& dims) { return allocate(call, engine.outputs()[output], dims); };
}

}  // namespace

Model::Model(Backend& backend, const std::string& name, uint64_t version, const std::string& folder, const Json& config)
    : backend_(backend),
      name_(name),
      version_(std::to_string(version)),
      engine_(folder + "/" + version_, config, settings_of(backend, config)),
      workers_(backend.workers, name_, version_),
      busy_(backend.busy, name_, version_) {
  if (const Lookups* lookups = engine_.lookups()) {
    for (const auto& table : lookups->access().tables()) tables_.push_back(std::make_unique<TableSeries>(backend, name_, version_, *table));
  }
  if (const Front* front = engine_.front()) {
    for (const auto& shard : front->remote().shards()) {
      shards_.push_back(std::make_unique<ShardSeries>(backend, version_, *shard));
      const std::string about = name_ + ": shard " + shard->model + ": ";
      shard->replicas->tell([about](const std::string& words) { forget(TRITONSERVER_LogMessage(TRITONSERVER_LOG_WARN, __FILE__, __LINE__, (about + words).c_str())); });
    }
  }
  backend.registry.add(name_, &engine_);
  report_workers();
  reported_ = std::make_unique<Reported>(backend, *this);
}

Model::~Model() {
  reported_.reset();
  backend_.registry.remove(name_, &engine_);
}

std::string Model::loaded() { return name_ + " version " + version_ + ": " + engine_.loaded() + ", " + std::to_string(engine_.workers().count()) + " workers"; }

void Model::report() {
  for (const auto& table : tables_) table->report();
  for (const auto& shard : shards_) shard->report();
}

void Model::report_workers() {
  const std::lock_guard<std::mutex> lock(reporting_);
  const uint64_t busy_ns = engine_.workers().busy_ns();
  busy_.add(static_cast<double>(busy_ns - reported_ns_) / 1e3);
  reported_ns_ = busy_ns;
  if (engine_.workers().count() != reported_workers_) workers_.set(reported_workers_ = engine_.workers().count());
}

// Whether clients may ask: until then requests are the warm-up's, at the start and when a version is loaded.
bool Model::serves(TRITONBACKEND_Model* model) {
  if (is_ready_) return true;
  TRITONSERVER_Server* server = nullptr;
  bool now = false;
  forget(TRITONBACKEND_ModelServer(model, &server));
  forget(TRITONSERVER_ServerModelIsReady(server, name_.c_str(), std::stoll(version_), &now));
  return is_ready_ = now;
}

void Model::execute(TRITONBACKEND_Model* model, TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** all, uint32_t count, bool& begun) {
  const uint64_t exec_start = now_ns();
  const bool warms_up = !serves(model);
  std::vector<Call> calls(count);
  std::vector<Request> requests(count);
  for (uint32_t number = 0; number < count; ++number) {
    calls[number].request = all[number];
    try {
      require(TRITONBACKEND_ResponseNew(&calls[number].response, all[number]));
      begin(calls[number], requests[number], engine_);
    } catch (const std::exception& error) {
      const auto* ours = dynamic_cast<const Error*>(&error);
      requests[number].error = error.what();
      requests[number].clients = ours != nullptr && ours->clients();
    }
  }
  const uint64_t compute_start = now_ns();
  try {
    engine_.run(requests);
  } catch (const std::exception& error) {
    for (Request& request : requests) request.error = error.what();
  }
  if (const Lookups* lookups = engine_.lookups(); lookups != nullptr && warms_up) lookups->access().begin_anew();
  const uint64_t compute_end = now_ns();
  begun = true;
  uint64_t rows = 0;
  for (uint32_t number = 0; number < count; ++number) {
    const Request& request = requests[number];
    if (request.error.empty()) rows += request.rows;
    TRITONSERVER_Error* error = request.error.empty() ? nullptr : error_of(request.error, request.clients, request.unavailable);
    if (calls[number].response != nullptr) forget(TRITONBACKEND_ResponseSend(calls[number].response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
    forget(error);
  }
  const uint64_t exec_end = now_ns();
  if (rows > 0) forget(TRITONBACKEND_ModelInstanceReportBatchStatistics(instance, rows, exec_start, compute_start, compute_end, exec_end));
  report_workers();
  for (uint32_t number = 0; number < count; ++number) {
    forget(TRITONBACKEND_ModelInstanceReportStatistics(instance, all[number], requests[number].error.empty(), exec_start, compute_start, compute_end, exec_end));
    forget(TRITONBACKEND_RequestRelease(all[number], TRITONSERVER_REQUEST_RELEASE_ALL));
  }
}

}  // namespace recsplit
