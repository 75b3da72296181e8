#include "onnxruntime.h"

#include <dlfcn.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "error.h"

namespace recsplit {

namespace {

// Places in OrtApi, from onnxruntime_c_api.h; all are in the table from version 8 of the API on (onnxruntime 1.8).
constexpr uint32_t kApiVersion = 8;
enum Place {
  kGetErrorMessage = 2, kCreateEnv = 3, kCreateSession = 7, kRun = 9, kCreateSessionOptions = 10, kSetSessionLogSeverityLevel = 22,
  kSetSessionGraphOptimizationLevel = 23, kSetIntraOpNumThreads = 24, kSessionGetInputCount = 30, kSessionGetOutputCount = 31,
  kSessionGetInputTypeInfo = 33, kSessionGetOutputTypeInfo = 34, kSessionGetInputName = 36, kSessionGetOutputName = 37,
  kCreateTensorWithDataAsOrtValue = 49, kGetTensorMutableData = 51, kCastTypeInfoToTensorInfo = 55, kGetTensorElementType = 60,
  kGetDimensionsCount = 61, kGetDimensions = 62, kGetTensorTypeAndShape = 65, kCreateCpuMemoryInfo = 69, kAllocatorFree = 76,
  kGetAllocatorWithDefaultOptions = 78, kReleaseStatus = 93, kReleaseSession = 95, kReleaseValue = 96, kReleaseTypeInfo = 98,
  kReleaseTensorTypeAndShapeInfo = 99, kReleaseSessionOptions = 100, kAddSessionConfigEntry = 130,
};
constexpr int kLogErrors = 3;
constexpr int kAllOptimizations = 99;
constexpr int kArenaAllocator = 1, kDefaultMemory = 0;

struct ApiBase {
  const void* const* (*get_api)(uint32_t version);
  const char* (*version)();
};

}  // namespace

class Runtime {
 public:
  explicit Runtime(const std::string& path) {
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw Error("ONNX Runtime can't be loaded: " + std::string(dlerror()));
    auto get_base = reinterpret_cast<const ApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
    if (get_base == nullptr) throw Error(path + " is no ONNX Runtime: it has no OrtGetApiBase");
    table_ = get_base()->get_api(kApiVersion);
    if (table_ == nullptr) throw Error(path + " is ONNX Runtime " + get_base()->version() + ", and the engine needs 1.8 or newer");
    call<int, const char*, void**>(kCreateEnv, kLogErrors, "recsplit", &env_);
    call<int, int, void**>(kCreateCpuMemoryInfo, kArenaAllocator, kDefaultMemory, &memory_);
    call<void**>(kGetAllocatorWithDefaultOptions, &allocator_);
  }

  // Calls a function that returns a status. Throws Error with its message.
  template <typename... Arguments>
  void call(Place place, Arguments... arguments) const {
    void* status = reinterpret_cast<void* (*)(Arguments...)>(const_cast<void*>(table_[place]))(arguments...);
    if (status == nullptr) return;
    const std::string message = reinterpret_cast<const char* (*)(const void*)>(const_cast<void*>(table_[kGetErrorMessage]))(status);
    release(kReleaseStatus, status);
    throw Error("onnxruntime: " + message);
  }

  void release(Place place, void* item) const {
    if (item != nullptr) reinterpret_cast<void (*)(void*)>(const_cast<void*>(table_[place]))(item);
  }

  void* env() const { return env_; }
  void* memory() const { return memory_; }
  void* allocator() const { return allocator_; }

 private:
  const void* const* table_ = nullptr;
  void* env_ = nullptr;
  void* memory_ = nullptr;
  void* allocator_ = nullptr;
};

std::shared_ptr<Runtime> runtime_at(const std::string& path) {
  static std::mutex opening;
  static auto* opened = new std::map<std::string, std::shared_ptr<Runtime>>;  // never freed: see the declaration
  const std::lock_guard<std::mutex> lock(opening);
  auto& runtime = (*opened)[path];
  if (runtime == nullptr) runtime = std::make_shared<Runtime>(path);
  return runtime;
}

namespace {

// Something of the runtime's, released when this goes.
class Held {
 public:
  Held(const Runtime& runtime, Place release) : runtime_(runtime), release_(release) {}
  ~Held() { runtime_.release(release_, item); }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  void* item = nullptr;

 private:
  const Runtime& runtime_;
  Place release_;
};

std::vector<int64_t> dims_of(const Runtime& runtime, const void* info) {
  size_t count = 0;
  runtime.call<const void*, size_t*>(kGetDimensionsCount, info, &count);
  std::vector<int64_t> dims(count);
  if (count != 0) runtime.call<const void*, int64_t*, size_t>(kGetDimensions, info, dims.data(), count);
  return dims;
}

DType dtype_in(const Runtime& runtime, const void* info) {
  int number = 0;
  runtime.call<const void*, int*>(kGetTensorElementType, info, &number);
  return from_onnx(number);
}

// The values of one run, released together: those of the request's memory before that memory goes.
struct Values {
  explicit Values(std::shared_ptr<Runtime> of) : runtime(std::move(of)) {}
  ~Values() {
    for (void* value : all) runtime->release(kReleaseValue, value);
  }
  std::shared_ptr<Runtime> runtime;
  std::vector<void*> all;
};

}  // namespace

size_t TensorView::bytes() const {
  size_t count = size_bytes(dtype);
  for (const int64_t dim : dims) count *= static_cast<size_t>(dim);
  return count;
}

Session::Session(std::shared_ptr<Runtime> runtime, const std::string& path, int threads) : runtime_(std::move(runtime)) {
  Held options(*runtime_, kReleaseSessionOptions);
  runtime_->call<void**>(kCreateSessionOptions, &options.item);
  runtime_->call<void*, int>(kSetIntraOpNumThreads, options.item, threads);
  runtime_->call<void*, int>(kSetSessionGraphOptimizationLevel, options.item, kAllOptimizations);
  runtime_->call<void*, int>(kSetSessionLogSeverityLevel, options.item, kLogErrors);
  // Threads that spin while they wait take the cores from the lookups.
  runtime_->call<void*, const char*, const char*>(kAddSessionConfigEntry, options.item, "session.intra_op.allow_spinning", "0");
  runtime_->call<const void*, const char*, const void*, void**>(kCreateSession, runtime_->env(), path.c_str(), options.item, &session_);
  inputs_ = describe(false);
  outputs_ = describe(true);
  for (const Tensor& tensor : inputs_) input_names_.push_back(tensor.name.c_str());
  for (const Tensor& tensor : outputs_) output_names_.push_back(tensor.name.c_str());
}

Session::~Session() { runtime_->release(kReleaseSession, session_); }

std::vector<Tensor> Session::describe(bool of_outputs) const {
  size_t count = 0;
  runtime_->call<const void*, size_t*>(of_outputs ? kSessionGetOutputCount : kSessionGetInputCount, session_, &count);
  std::vector<Tensor> tensors;
  for (size_t number = 0; number < count; ++number) {
    char* name = nullptr;
    runtime_->call<const void*, size_t, void*, char**>(of_outputs ? kSessionGetOutputName : kSessionGetInputName, session_, number, runtime_->allocator(), &name);
    Tensor tensor{name, DType::invalid, {}};
    runtime_->call<void*, void*>(kAllocatorFree, runtime_->allocator(), name);
    Held type(*runtime_, kReleaseTypeInfo);
    runtime_->call<const void*, size_t, void**>(of_outputs ? kSessionGetOutputTypeInfo : kSessionGetInputTypeInfo, session_, number, &type.item);
    const void* info = nullptr;
    runtime_->call<const void*, const void**>(kCastTypeInfoToTensorInfo, type.item, &info);
    if (info == nullptr) throw Error("'" + tensor.name + "' is no tensor");
    tensor.dtype = dtype_in(*runtime_, info);
    tensor.dims = dims_of(*runtime_, info);
    if (tensor.dtype == DType::invalid) throw Error("'" + tensor.name + "' has elements of a type that the engine doesn't have");
    if (tensor.dims.empty() || tensor.dims[0] >= 0) throw Error("'" + tensor.name + "' has no batch dimension that varies");
    tensor.dims.erase(tensor.dims.begin());
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::shared_ptr<void> Session::run(const std::vector<TensorView>& inputs, std::vector<TensorView>& outputs) const {
  const Runtime& runtime = *runtime_;
  auto values = std::make_shared<Values>(runtime_);
  const auto wrap = [&](const TensorView& tensor) {
    void* value = nullptr;
    runtime.call<const void*, void*, size_t, const int64_t*, size_t, int, void**>(kCreateTensorWithDataAsOrtValue, runtime.memory(), tensor.data, tensor.bytes(), tensor.dims.data(),
                                                                                  tensor.dims.size(), onnx_of(tensor.dtype), &value);
    values->all.push_back(value);
    return value;
  };
  std::vector<void*> input_values, results;
  for (const TensorView& tensor : inputs) input_values.push_back(wrap(tensor));
  for (const TensorView& tensor : outputs) results.push_back(tensor.data == nullptr ? nullptr : wrap(tensor));
  const std::vector<void*> before = results;
  runtime.call<void*, const void*, const char* const*, void* const*, size_t, const char* const*, size_t, void**>(
      kRun, session_, nullptr, input_names_.data(), input_values.data(), input_values.size(), output_names_.data(), results.size(), results.data());
  for (size_t number = 0; number < outputs.size(); ++number) {
    if (before[number] != nullptr) continue;
    values->all.push_back(results[number]);
    Held info(runtime, kReleaseTensorTypeAndShapeInfo);
    runtime.call<const void*, void**>(kGetTensorTypeAndShape, results[number], &info.item);
    outputs[number].dtype = dtype_in(runtime, info.item);
    outputs[number].dims = dims_of(runtime, info.item);
    runtime.call<void*, void**>(kGetTensorMutableData, results[number], &outputs[number].data);
  }
  return values;
}

}  // namespace recsplit
