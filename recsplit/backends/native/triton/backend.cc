// The entry points that Triton calls. No exception leaves this file: it would end the server.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "loaded.h"
#include "model.h"
#include "router_model.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace recsplit {

namespace {

constexpr uint32_t kApiMajor = 1, kApiMinor = 15;
constexpr std::chrono::milliseconds kReported(500);

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

}  // namespace

// Each series costs some 100 ns to bring up to date: once in a while, and not with every batch.
void Backend::report() {
  std::unique_lock<std::mutex> lock(reporting);
  while (!ending.wait_for(lock, kReported, [this] { return is_ending; })) {
    for (Loaded* model : models) model->report();
  }
}

Reported::Reported(Backend& backend, Loaded& model) : backend_(backend), model_(model) {
  const std::lock_guard<std::mutex> lock(backend.reporting);
  backend.models.push_back(&model);
}

Reported::~Reported() {
  const std::lock_guard<std::mutex> lock(backend_.reporting);
  backend_.models.erase(std::find(backend_.models.begin(), backend_.models.end(), &model_));
}

}  // namespace recsplit

using namespace recsplit;

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
      backend->settings.tables.loading = loading_of(text_at(*chosen, "tables"));
      backend->settings.tables.interleave = text_at(*chosen, "interleave") == "true";
      backend->settings.tables.kernels = text_at(*chosen, "kernels");
      backend->settings.tables.sampled = number_of(text_at(*chosen, "sampled"), kSampledStride, "sampled");
      const std::string control = text_at(*chosen, "control");
      if (!control.empty()) backend->control = std::make_unique<Control>(control, backend->registry);
    }
    if (backend->settings.onnxruntime.empty()) backend->settings.onnxruntime = beside(handle);
    backend->settings.workers = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    Backend* of = backend.get();
    of->reporter = std::thread([of] { of->report(); });
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
    const std::string routing = read_file(std::string(location) + "/" + std::to_string(version) + "/" + kRoutingFile);
    std::unique_ptr<Loaded> model;
    if (!routing.empty()) {
      model = std::make_unique<RouterModel>(backend, handle, name, version, routing);
    } else {
      model = std::make_unique<Model>(backend, name, version, location, config);
    }
    forget(TRITONSERVER_LogMessage(TRITONSERVER_LOG_INFO, __FILE__, __LINE__, model->loaded().c_str()));
    require(TRITONBACKEND_ModelSetState(handle, model.release()));
  });
}

EXPORT TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* handle) {
  return guarded([&] {
    void* state = nullptr;
    require(TRITONBACKEND_ModelState(handle, &state));
    delete static_cast<Loaded*>(state);
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
    static_cast<Loaded*>(state)->execute(model, handle, requests, count, begun);
  } catch (...) {
    if (!begun) return error_of("the server ran out of memory", false);  // nothing has been sent: Triton fails them all
  }
  return nullptr;
}
