#include "router_model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "error.h"
#include "refusal.h"

namespace recsplit {

namespace {

// An input of a query, in one piece.
struct Input {
  const char* name;
  int dtype;
  std::vector<int64_t> dims;  // the batch first
  const char* data;
  size_t row_bytes;
};

// An output of a part, and where it lies.
struct Output {
  std::string name;
  int dtype;
  std::vector<int64_t> dims;
  const char* data;
  size_t size;
};

TRITONSERVER_Error* allocate(TRITONSERVER_ResponseAllocator*, const char*, size_t size, TRITONSERVER_MemoryType, int64_t, void*, void** buffer, void** of_buffer,
                             TRITONSERVER_MemoryType* memory_type, int64_t* memory_id) {
  *buffer = size == 0 ? nullptr : std::malloc(size);
  *of_buffer = nullptr;
  *memory_type = TRITONSERVER_MEMORY_CPU;
  *memory_id = 0;
  return size > 0 && *buffer == nullptr ? error_of("the server ran out of memory", false) : nullptr;
}

TRITONSERVER_Error* let_go(TRITONSERVER_ResponseAllocator*, void* buffer, void*, size_t, TRITONSERVER_MemoryType, int64_t) {
  std::free(buffer);
  return nullptr;
}

void released(TRITONSERVER_InferenceRequest* request, const uint32_t, void*) { forget(TRITONSERVER_InferenceRequestDelete(request)); }

// Data of an input as one piece, where it lies or as a copy.
const char* data_of(TRITONBACKEND_Input* input, const char* name, uint32_t buffers, uint64_t size, std::vector<std::unique_ptr<char[]>>& copies) {
  char* copy = nullptr;
  uint64_t done = 0;
  for (uint32_t index = 0; index < buffers; ++index) {
    const void* data = nullptr;
    uint64_t part = 0;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    require(TRITONBACKEND_InputBuffer(input, index, &data, &part, &memory, &memory_id));
    if (memory == TRITONSERVER_MEMORY_GPU) throw Error(std::string("input '") + name + "' lies in a GPU's memory, and the router reads the CPU's", true);
    if (buffers == 1 && part == size) return static_cast<const char*>(data);
    if (copy == nullptr) {
      copies.emplace_back(new char[size]);
      copy = copies.back().get();
    }
    if (part > size - done) break;
    std::memcpy(copy + done, data, part);
    done += part;
  }
  if (done != size) throw Error(std::string("input '") + name + "' has other bytes than its shape", true);
  return copy;
}

// The part's rows of an input.
Piece piece_of(const Input& input, const Router::Part& part) {
  return {input.data + static_cast<size_t>(part.first) * input.row_bytes, static_cast<size_t>(part.rows) * input.row_bytes};
}

std::vector<Output> outputs_of(TRITONSERVER_InferenceResponse* response) {
  uint32_t count = 0;
  require(TRITONSERVER_InferenceResponseOutputCount(response, &count));
  std::vector<Output> outputs;
  for (uint32_t index = 0; index < count; ++index) {
    const char* name = nullptr;
    const int64_t* shape = nullptr;
    const void* data = nullptr;
    void* of_buffer = nullptr;
    uint64_t rank = 0;
    Output output{};
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    require(TRITONSERVER_InferenceResponseOutput(response, index, &name, &output.dtype, &shape, &rank, &data, &output.size, &memory, &memory_id, &of_buffer));
    output.name = name;
    output.dims.assign(shape, shape + rank);
    output.data = static_cast<const char*>(data);
    outputs.push_back(std::move(output));
  }
  return outputs;
}

double milliseconds_since(uint64_t start_ns) { return static_cast<double>(now_ns() - start_ns) / 1e6; }

}  // namespace

// A part of a query on its way, and its answer.
struct RouterModel::Sent {
  Query* query;
  Router::Part part;
  uint64_t start_ns = 0;
  bool again = false;  // it was given to a second server
  TRITONSERVER_InferenceResponse* response = nullptr;  // what holds the outputs: of a server elsewhere `received` does
  std::string received;
  std::vector<Output> outputs;
};

struct RouterModel::Query {
  RouterModel* of;
  TRITONBACKEND_ModelInstance* instance;
  TRITONBACKEND_Request* request;
  TRITONBACKEND_Response* response = nullptr;
  uint64_t start_ns;
  int64_t rows = 0;
  std::vector<Input> inputs;
  std::vector<std::unique_ptr<char[]>> copies;
  std::vector<const char*> asked;
  std::vector<Sent> sent;
  std::atomic<size_t> left{0};
  std::mutex mutex;
  std::string error;  // of the first part that failed
  TRITONSERVER_Error_Code code = TRITONSERVER_ERROR_INTERNAL;

  ~Query() {
    for (const Sent& one : sent) {
      if (one.response != nullptr) forget(TRITONSERVER_InferenceResponseDelete(one.response));
    }
  }
};

RouterModel::RouterModel(Backend& backend, TRITONBACKEND_Model* model, const std::string& name, uint64_t version, const std::string& routing)
    : backend_(backend), name_(name), version_(std::to_string(version)), router_(routing), refused_(backend.refused, name_, version_) {
  require(TRITONBACKEND_ModelServer(model, &server_));
  require(TRITONSERVER_ResponseAllocatorNew(&allocator_, allocate, let_go, nullptr));
  backend.registry.add(name_, &router_);
  reported_ = std::make_unique<Reported>(backend, *this);
}

RouterModel::~RouterModel() {
  reported_.reset();
  backend_.registry.remove(name_, &router_);
  forget(TRITONSERVER_ResponseAllocatorDelete(allocator_));
}

std::string RouterModel::loaded() {
  return name_ + " version " + version_ + ": a router of " + std::to_string(router_.variants().size()) + " variants on " + std::to_string(router_.servers().size()) + " servers";
}

void RouterModel::report() {
  refused_.report({router_.late, router_.lost});
  std::map<std::shared_ptr<Router::Variant>, std::unique_ptr<Counters>> there;
  for (const auto& variant : router_.variants()) {
    auto& series = variants_[variant];
    if (series == nullptr) series = std::make_unique<Counters>(backend_.variants, name_, version_, "variant", variant->name);
    series->report({variant->queries, variant->rows, variant->parts});
    there[variant] = std::move(series);
  }
  variants_ = std::move(there);
}

void RouterModel::execute(TRITONBACKEND_Model*, TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request** requests, uint32_t count, bool& begun) {
  begun = true;
  for (uint32_t number = 0; number < count; ++number) begin(instance, requests[number]);
}

void RouterModel::begin(TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request* request) {
  auto query = std::make_unique<Query>();
  query->of = this;
  query->instance = instance;
  query->request = request;
  query->start_ns = now_ns();
  try {
    require(TRITONBACKEND_ResponseNew(&query->response, request));
    uint32_t inputs = 0, outputs = 0;
    require(TRITONBACKEND_RequestInputCount(request, &inputs));
    require(TRITONBACKEND_RequestOutputCount(request, &outputs));
    for (uint32_t index = 0; index < inputs; ++index) {
      TRITONBACKEND_Input* input = nullptr;
      require(TRITONBACKEND_RequestInputByIndex(request, index, &input));
      Input view{};
      const int64_t* dims = nullptr;
      uint32_t rank = 0, buffers = 0;
      uint64_t size = 0;
      require(TRITONBACKEND_InputProperties(input, &view.name, &view.dtype, &dims, &rank, &size, &buffers));
      view.dims.assign(dims, dims + rank);
      if (index == 0) query->rows = rank == 0 ? 0 : dims[0];
      if (query->rows < 1) throw Error("a query without rows", true);
      if (rank == 0 || dims[0] != query->rows) throw Error(std::string("input '") + view.name + "' has other rows than the first input", true);
      view.row_bytes = size / static_cast<uint64_t>(query->rows);
      if (view.row_bytes * static_cast<uint64_t>(query->rows) != size) throw Error(std::string("input '") + view.name + "' has rows of several sizes, and can't be cut", true);
      view.data = data_of(input, view.name, buffers, size, query->copies);
      query->inputs.push_back(std::move(view));
    }
    for (uint32_t index = 0; index < outputs; ++index) {
      query->asked.emplace_back();
      require(TRITONBACKEND_RequestOutputName(request, index, &query->asked.back()));
    }
    // A request of a backend is one of the server's own kind: Triton's Python backend asks it so as well.
    uint64_t timeout_us = 0;
    require(TRITONSERVER_InferenceRequestTimeoutMicroseconds(reinterpret_cast<TRITONSERVER_InferenceRequest*>(request), &timeout_us));
    for (Router::Part& part : router_.route(query->rows, timeout_us == 0 ? -1 : static_cast<double>(timeout_us) / 1e3)) {
      query->sent.emplace_back();
      query->sent.back().query = query.get();
      query->sent.back().part = std::move(part);
    }
  } catch (const std::exception& error) {
    const auto* ours = dynamic_cast<const Error*>(&error);
    query->error = error.what();
    query->code = dynamic_cast<const Unavailable*>(ours) != nullptr ? TRITONSERVER_ERROR_UNAVAILABLE : ours != nullptr && ours->clients() ? TRITONSERVER_ERROR_INVALID_ARG : TRITONSERVER_ERROR_INTERNAL;
    finish(*query.release());
    return;
  }
  query->left = query->sent.size();
  Query& going = *query.release();  // who ends its last part deletes it: it is there until that one was sent
  const size_t count = going.sent.size();
  for (size_t number = 0; number < count; ++number) send(going.sent[number]);
}

void RouterModel::send(Sent& sent) {
  sent.start_ns = now_ns();
  if (sent.part.server->elsewhere != nullptr) {
    backend_.courier.carry({sent.part.server->elsewhere, question(sent), [this, &sent](const HttpConnection* answer, const std::string& failure, bool refused) {
                              if (answer != nullptr) {
                                receive(sent, *answer);
                                answered(sent);
                              } else {
                                refused ? failed(sent, failure, TRITONSERVER_ERROR_INVALID_ARG) : failed(sent, "no server can answer: " + failure, TRITONSERVER_ERROR_UNAVAILABLE);
                              }
                            }});
    return;
  }
  const Query& query = *sent.query;
  TRITONSERVER_InferenceRequest* request = nullptr;
  try {
    require(TRITONSERVER_InferenceRequestNew(&request, server_, sent.part.server->model.c_str(), sent.part.server->version));
    for (const Input& input : query.inputs) {
      std::vector<int64_t> dims = input.dims;
      dims[0] = sent.part.rows;
      require(TRITONSERVER_InferenceRequestAddInput(request, input.name, input.dtype, dims.data(), dims.size()));
      const Piece piece = piece_of(input, sent.part);
      require(TRITONSERVER_InferenceRequestAppendInputData(request, input.name, piece.data, piece.size, TRITONSERVER_MEMORY_CPU, 0));
    }
    for (const char* name : query.asked) require(TRITONSERVER_InferenceRequestAddRequestedOutput(request, name));
    require(TRITONSERVER_InferenceRequestSetReleaseCallback(request, released, nullptr));
    const auto respond = [](TRITONSERVER_InferenceResponse* response, const uint32_t, void* caller) {
      Sent& of = *static_cast<Sent*>(caller);
      if (response != nullptr) of.query->of->take(of, response);
    };
    require(TRITONSERVER_InferenceRequestSetResponseCallback(request, allocator_, nullptr, respond, &sent));
    require(TRITONSERVER_ServerInferAsync(server_, request, nullptr));
  } catch (const std::exception& error) {
    if (request != nullptr) forget(TRITONSERVER_InferenceRequestDelete(request));
    failed(sent, error.what(), TRITONSERVER_ERROR_UNAVAILABLE);
  }
}

// A part as a request of Triton's HTTP, its tensors behind the JSON.
Question RouterModel::question(const Sent& sent) {
  const Query& query = *sent.query;
  Question question;
  std::string inputs, outputs;
  size_t size = 0;
  for (const Input& input : query.inputs) {
    const Piece piece = piece_of(input, sent.part);
    std::string dims = std::to_string(sent.part.rows);
    for (size_t axis = 1; axis < input.dims.size(); ++axis) dims += "," + std::to_string(input.dims[axis]);
    inputs += (inputs.empty() ? "" : ",") + ("{\"name\":" + quoted(input.name)) + ",\"shape\":[" + dims + "],\"datatype\":\"" + name_of(static_cast<DType>(input.dtype)) +
              "\",\"parameters\":{\"binary_data_size\":" + std::to_string(piece.size) + "}}";
    question.body.push_back(piece);
    size += piece.size;
  }
  for (const char* name : query.asked) outputs += (outputs.empty() ? "" : ",") + ("{\"name\":" + quoted(name)) + ",\"parameters\":{\"binary_data\":true}}";
  const std::string json = "{\"inputs\":[" + inputs + "],\"outputs\":[" + outputs + "]}";
  question.head = "POST " + path_of(*sent.part.server) + "/infer HTTP/1.1\r\nHost: recsplit\r\nContent-Type: application/octet-stream\r\nInference-Header-Content-Length: " +
                  std::to_string(json.size()) + "\r\nContent-Length: " + std::to_string(json.size() + size) + "\r\n\r\n" + json;
  return question;
}

// The outputs of a server elsewhere. Throws Error where they are none.
void RouterModel::receive(Sent& sent, const HttpConnection& answer) {
  const size_t header = answer.json_size() == 0 ? answer.body_size() : answer.json_size();
  const Json json = Json::parse({answer.body(), header}, "a server's answer");
  sent.received.assign(answer.body() + header, answer.body_size() - header);
  sent.outputs.clear();
  size_t done = 0;
  for (const Json& output : json.at("outputs").array()) {
    const auto size = static_cast<size_t>(output.at("parameters").at("binary_data_size").integer(0, INT64_MAX));
    if (size > sent.received.size() - done) throw Error("an answer that is shorter than it says");
    sent.outputs.push_back({output.at("name").text(), static_cast<int>(dtype_of(output.at("datatype").text())), output.at("shape").integers(), sent.received.data() + done, size});
    done += size;
  }
}

// A response of the server itself, which is ours now.
void RouterModel::take(Sent& sent, TRITONSERVER_InferenceResponse* response) {
  std::string why;
  TRITONSERVER_Error_Code code = TRITONSERVER_ERROR_INTERNAL;
  try {
    if (TRITONSERVER_Error* error = TRITONSERVER_InferenceResponseError(response)) {  // the response's own
      why = TRITONSERVER_ErrorMessage(error);
      code = TRITONSERVER_ErrorCode(error);
    } else {
      sent.outputs = outputs_of(response);
    }
  } catch (const std::exception& error) {
    why = error.what();
  }
  if (!why.empty()) {
    forget(TRITONSERVER_InferenceResponseDelete(response));
    failed(sent, why, code);
    return;
  }
  sent.response = response;
  answered(sent);
}

void RouterModel::answered(Sent& sent) {
  router_.answered(sent.part, milliseconds_since(sent.start_ns), true);
  end_part(*sent.query);
}

void RouterModel::failed(Sent& sent, const std::string& why, TRITONSERVER_Error_Code code) {
  router_.answered(sent.part, 0, false);
  // What the client did wrong another server would find as well.
  if (code != TRITONSERVER_ERROR_INVALID_ARG && !sent.again && router_.again(sent.part)) {
    sent.again = true;
    send(sent);
    return;
  }
  Query& query = *sent.query;
  {
    const std::lock_guard<std::mutex> lock(query.mutex);
    if (query.error.empty()) {
      query.error = moved(why, sent.part.first);
      query.code = code;
    }
  }
  end_part(query);
}

void RouterModel::end_part(Query& query) {
  if (query.left.fetch_sub(1) == 1) finish(query);
}

// The outputs of all parts, one behind the other.
void RouterModel::join(Query& query) {
  for (const Output& first : query.sent[0].outputs) {
    std::vector<Piece> pieces;
    size_t size = 0;
    for (const Sent& sent : query.sent) {
      const auto output = std::find_if(sent.outputs.begin(), sent.outputs.end(), [&](const Output& one) { return one.name == first.name; });
      const bool is_alike = output != sent.outputs.end() && output->dtype == first.dtype && !output->dims.empty() && output->dims.size() == first.dims.size() &&
                            output->dims[0] == sent.part.rows && std::equal(output->dims.begin() + 1, output->dims.end(), first.dims.begin() + 1);
      if (!is_alike) throw Error("output '" + first.name + "' has several forms in the parts of a query");
      pieces.push_back({output->data, output->size});
      size += output->size;
    }
    std::vector<int64_t> dims = first.dims;
    dims[0] = query.rows;
    TRITONBACKEND_Output* output = nullptr;
    require(TRITONBACKEND_ResponseOutput(query.response, &output, first.name.c_str(), first.dtype, dims.data(), static_cast<uint32_t>(dims.size())));
    void* buffer = nullptr;
    TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
    int64_t memory_id = 0;
    require(TRITONBACKEND_OutputBuffer(output, &buffer, size, &memory, &memory_id));
    if (memory == TRITONSERVER_MEMORY_GPU) throw Error("output '" + first.name + "' is wanted in a GPU's memory, and the router writes the CPU's", true);
    auto* to = static_cast<char*>(buffer);
    for (const Piece& piece : pieces) {
      if (piece.size > 0) std::memcpy(to, piece.data, piece.size);
      to += piece.size;
    }
  }
}

// Answers the client. Nothing of the model may be touched once the request is given back: with it the last hold on the model may go.
void RouterModel::finish(Query& query) {
  const uint64_t joining_ns = now_ns();
  if (query.error.empty()) {
    try {
      join(query);
    } catch (const std::exception& error) {
      const auto* ours = dynamic_cast<const Error*>(&error);
      query.error = error.what();
      query.code = ours != nullptr && ours->clients() ? TRITONSERVER_ERROR_INVALID_ARG : TRITONSERVER_ERROR_INTERNAL;
    }
  }
  const bool is_answer = query.error.empty();
  TRITONSERVER_Error* error = is_answer ? nullptr : TRITONSERVER_ErrorNew(query.code, query.error.c_str());
  if (query.response != nullptr) forget(TRITONBACKEND_ResponseSend(query.response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
  forget(error);
  const uint64_t end_ns = now_ns();
  if (is_answer) forget(TRITONBACKEND_ModelInstanceReportBatchStatistics(query.instance, static_cast<uint64_t>(query.rows), query.start_ns, query.start_ns, joining_ns, end_ns));
  forget(TRITONBACKEND_ModelInstanceReportStatistics(query.instance, query.request, is_answer, query.start_ns, query.start_ns, joining_ns, end_ns));
  TRITONBACKEND_Request* request = query.request;
  delete &query;
  forget(TRITONBACKEND_RequestRelease(request, TRITONSERVER_REQUEST_RELEASE_ALL));
}

}  // namespace recsplit
