#include "engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <fstream>
#include <sstream>

#include "bags.h"
#include "error.h"
#include "front.h"
#include "scratch.h"

namespace recsplit {

namespace {

constexpr const char *kRecipeFile = "engine.json", *kBagsFile = "bags.json";
constexpr char kUnknownIds[] = "unknown_ids";
constexpr size_t kMostRecipeBytes = 64 << 20;
// Rows of a block: the vectors of so many, some hundred kB, stay in the second cache until the dense model reads them.
constexpr size_t kBlockRows = 256;
// A block that takes less than this isn't worth waking another worker for, ns.
constexpr uint64_t kWorthWaking = 300'000;

// A name of one file or folder, which leads nowhere else.
const std::string& plain_name(const Json& json) {
  const std::string& name = json.text();
  if (name.empty() || name[0] == '.' || name.find('/') != std::string::npos) throw Error("'" + name.substr(0, 40) + "' is no name of a file or model");
  return name;
}

std::vector<Tensor> tensors_of(const Json& config, const char* key) {
  std::vector<Tensor> tensors;
  for (const Json& item : config.at(key).array()) {
    const Json* reshape = item.find("reshape");
    const std::vector<int64_t> dims = reshape != nullptr && !reshape->is_null() && reshape->find("shape") != nullptr ? reshape->at("shape").integers() : item.at("dims").integers();
    tensors.push_back({item.at("name").text(), dtype_of(item.at("data_type").text()), dims});
  }
  return tensors;
}

const Json* parameter(const Json& config, const char* key) {
  const Json* parameters = config.find("parameters");
  const Json* value = parameters == nullptr || parameters->is_null() ? nullptr : parameters->find(key);
  return value == nullptr ? nullptr : &value->at("string_value");
}

bool agree(const std::vector<int64_t>& one, const std::vector<int64_t>& other) {
  if (one.size() != other.size()) return false;
  for (size_t axis = 0; axis < one.size(); ++axis) {
    if (one[axis] >= 0 && other[axis] >= 0 && one[axis] != other[axis]) return false;
  }
  return true;
}

std::string shown(const Tensor& tensor) {
  std::string text = std::string(name_of(tensor.dtype)) + " [";
  for (size_t axis = 0; axis < tensor.dims.size(); ++axis) text += (axis == 0 ? "" : ", ") + std::to_string(tensor.dims[axis]);
  return text + "]";
}

size_t row_bytes(const TensorView& tensor) {
  size_t count = size_bytes(tensor.dtype);
  for (size_t axis = 1; axis < tensor.dims.size(); ++axis) count *= static_cast<size_t>(tensor.dims[axis]);
  return count;
}

std::vector<int64_t> with_rows(size_t rows, const std::vector<int64_t>& dims) {
  std::vector<int64_t> all{static_cast<int64_t>(rows)};
  all.insert(all.end(), dims.begin(), dims.end());
  return all;
}

// What this thread has computed, ns. By the clock on the wall, rows would look dear where the cores are busy with others, and be shared out
// among workers that there is no core for.
uint64_t thread_ns() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

bool fixed(const std::vector<int64_t>& dims) { return std::all_of(dims.begin(), dims.end(), [](int64_t dim) { return dim >= 0; }); }

// What recsplit wrote for the engine, where there is such a file.
std::optional<Json> written(const std::string& file) {
  const std::string text = read_file(file);
  if (text.empty()) return std::nullopt;
  Json json = Json::parse(text, file);
  if (json.at("schema").integer() != kSchema) throw Error(file + " is of another version of recsplit: build the model again, or 'recsplit backend build'");
  return json;
}

}  // namespace

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text;
  char buffer[1 << 16];
  while (file.read(buffer, sizeof buffer), file.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(file.gcount()));
    if (text.size() > kMostRecipeBytes) throw Error(path + " is larger than a recipe may be");
  }
  return text;
}

// What the requests of one batch share. Rows are numbered through: those of request r begin at starts[r].
struct Engine::Batch {
  std::vector<Request*> requests;
  std::vector<size_t> starts;
  size_t rows_of_block = 0;
  struct Marked {
    int64_t row = -1, rows = 0, position = 0, number = 0;
  };
  std::vector<Marked> marked;
  std::vector<char> failed;           // by request: whether a block of its failed
  std::vector<std::string> failures;  // why; empty: for want of memory
  std::mutex mutex;
};

// Rows [first, last) of the batch, and what the stages made of them.
struct Engine::Block {
  struct Segment {
    size_t request, first, rows, at;  // rows from `first` of the request, at row `at` of the block
  };
  struct Memory {
    std::vector<Scratch> slots;
    std::vector<Scratch> gathered;
    LookupScratch lookups;
  };

  size_t rows;
  std::vector<Segment> segments;
  std::vector<TensorView> slots;
  std::vector<char> handed;  // slots whose rows lie in the requests' memory already
  std::vector<std::shared_ptr<void>> held;
  Memory* memory;
};

Engine::Engine(const std::string& folder, const Json& config, const EngineSettings& settings)
    : inputs_(tensors_of(config, "input")), outputs_(tensors_of(config, "output")), own_workers_(std::make_unique<Workers>(settings.workers)), workers_(own_workers_.get()) {
  if (config.at("max_batch_size").integer() < 1) {
    const std::optional<Json> bags = written(folder + "/" + kBagsFile);
    if (!bags) throw Error("max_batch_size is 0: the engine's models have a batch dimension");
    bags_ = std::make_unique<BagsModel>(*bags, folder, settings.tables, inputs_, outputs_);
    return;
  }
  const std::optional<Json> recipe = written(folder + "/" + kRecipeFile);
  if (const Json* front = recipe ? recipe->find("front") : nullptr) {
    front_ = std::make_unique<Front>(*front, folder, settings, inputs_, outputs_, *workers_);
    return;
  }
  begin(config);
  const Json* name = config.find("default_model_filename");
  add_stages(folder, recipe, name == nullptr || name->text().empty() ? "model.onnx" : name->text(), settings, 0);
  finish(config);
}

Engine::Engine(const Json& part, const std::string& folder, const EngineSettings& settings, Workers& workers)
    : inputs_(tensors_of(part.at("config"), "input")), outputs_(tensors_of(part.at("config"), "output")), workers_(&workers) {
  begin(part.at("config"));
  for (const Json& model : part.at("models").array()) {
    const std::string place = folder + "/" + plain_name(model);
    add_stages(place, written(place + "/" + kRecipeFile), "model.onnx", settings, 1);
  }
  finish(part.at("config"));
}

void Engine::begin(const Json& config) {
  if (config.at("max_batch_size").integer() < 1) throw Error("max_batch_size is 0: the engine's models have a batch dimension");
  for (size_t number = 0; number < inputs_.size(); ++number) slots_.push_back({inputs_[number], number, SIZE_MAX, false});
}

void Engine::finish(const Json& config) {
  bind_outputs();
  const Json* lookups = parameter(config, "recsplit.lookups");
  for (size_t number = 0; number < slots_.size(); ++number) {
    if (slots_[number].tensor.name == kUnknownIds && slots_[number].input == SIZE_MAX && lookups != nullptr) marks_ = number;
  }
  if (marks_ != SIZE_MAX) refusals_ = std::make_unique<Refusals>(lookups->text());
}

// The stages of a version folder: its recipe's, or its ONNX model. A recipe may name another model of the repository, in the same version.
void Engine::add_stages(const std::string& folder, const std::optional<Json>& recipe, const std::string& onnx, const EngineSettings& settings, int depth) {
  if (!recipe) {
    add_stage(Json::parse("{\"onnx\": \"" + onnx + "\"}", "default_model_filename"), folder, settings);
    return;
  }
  for (const Json& stage : recipe->at("stages").array()) {
    const Json* model = stage.find("model");
    if (model == nullptr) {
      add_stage(stage, folder, settings);
      continue;
    }
    if (depth > 0) throw Error("a model of models of models");
    const std::string place = folder + "/../../" + plain_name(*model) + folder.substr(folder.rfind('/'));
    add_stages(place, written(place + "/" + kRecipeFile), "model.onnx", settings, depth + 1);
  }
}

void Engine::add_stage(const Json& json, const std::string& folder, const EngineSettings& settings) {
  Stage stage;
  const std::vector<Tensor>*inputs = nullptr, *outputs = nullptr;
  if (const Json* onnx = json.find("onnx")) {
    const std::string& file = plain_name(*onnx);
    if (settings.onnxruntime.empty()) throw Error("no ONNX Runtime is named: start the server with --backend-config=recsplit,onnxruntime=PATH of a libonnxruntime.so");
    stage.session = std::make_unique<Session>(runtime_at(settings.onnxruntime), folder + "/" + file, 1);
    inputs = &stage.session->inputs();
    outputs = &stage.session->outputs();
  } else {
    stage.lookups = std::make_unique<Lookups>(read_recipe(json.at("lookups")), folder, settings.tables);
    inputs = &stage.lookups->recipe().inputs;
    for (const Tensor& tensor : *inputs) {
      const Slot& source = slots_[slot(tensor, false)];
      if (source.input == SIZE_MAX) throw Error("lookups read '" + tensor.name + "', which is no input of the config");
      if (source.tensor.dims != tensor.dims) throw Error("'" + tensor.name + "' is " + shown(source.tensor) + " in the config, and the lookups read " + shown(tensor));
    }
    outputs = &stage.lookups->recipe().outputs;
  }
  for (const Tensor& tensor : *inputs) stage.inputs.push_back(slot(tensor, false));
  for (const Tensor& tensor : *outputs) stage.outputs.push_back(slot(tensor, true));
  if (stage.lookups != nullptr && !stage.lookups->recipe().marks.empty()) stage.marks = slot({stage.lookups->recipe().marks, DType::i64, {2}}, true);
  stages_.push_back(std::move(stage));
}

// The slot of a tensor that a stage reads or makes. Throws Error where there is none to read, or it is made twice.
size_t Engine::slot(const Tensor& tensor, bool is_output) {
  for (size_t number = 0; number < slots_.size(); ++number) {
    if (slots_[number].tensor.name != tensor.name) continue;
    if (is_output) throw Error("tensor '" + tensor.name + "' is made twice");
    if (slots_[number].tensor.dtype != tensor.dtype || !agree(slots_[number].tensor.dims, tensor.dims)) {
      throw Error("'" + tensor.name + "' is " + shown(slots_[number].tensor) + ", and the model takes " + shown(tensor));
    }
    slots_[number].read = true;
    return number;
  }
  if (!is_output) throw Error("the model takes '" + tensor.name + "', which is no input of its config");
  slots_.push_back({tensor, SIZE_MAX, SIZE_MAX, false});
  return slots_.size() - 1;
}

void Engine::bind_outputs() {
  for (size_t number = 0; number < outputs_.size(); ++number) {
    Slot* source = nullptr;
    for (Slot& item : slots_) {
      if (item.tensor.name == outputs_[number].name && item.input == SIZE_MAX) source = &item;
    }
    if (source == nullptr) throw Error("no stage makes the output '" + outputs_[number].name + "'");
    if (source->tensor.dtype != outputs_[number].dtype || !agree(source->tensor.dims, outputs_[number].dims)) {
      throw Error("output '" + outputs_[number].name + "' is " + shown(source->tensor) + ", and its config says " + shown(outputs_[number]));
    }
    source->output = number;
  }
}

const Lookups* Engine::lookups() const {
  if (front_ != nullptr) return front_->before().lookups();
  for (const Stage& stage : stages_) {
    if (stage.lookups != nullptr) return stage.lookups.get();
  }
  return nullptr;
}

std::string Engine::loaded() const {
  if (bags_ != nullptr) return bags_->loaded();
  if (front_ != nullptr) return front_->loaded();
  std::string words;
  for (const Stage& stage : stages_) words += (words.empty() ? "" : "; ") + (stage.lookups != nullptr ? stage.lookups->loaded() : std::string("an ONNX model"));
  return words;
}

Engine::~Engine() = default;

void Engine::run(std::vector<Request>& requests) {
  for (Request& request : requests) {
    if (bags_ == nullptr || !request.error.empty()) continue;
    try {
      bags_->run(request, *workers_);
    } catch (const Error& error) {
      request.error = error.what();
      request.clients = error.clients();
    }
  }
  if (bags_ != nullptr) return;
  if (front_ != nullptr) return front_->run(requests);
  std::vector<Request*> open, failed;
  for (Request& request : requests) {
    if (request.error.empty()) check_lengths(request);
    if (request.error.empty()) open.push_back(&request);
  }
  if (open.empty()) return;
  try_batch(open, failed);
  if (open.size() == 1) return;
  for (Request* request : failed) {
    request->error.clear();
    std::vector<Request*> alone{request}, again;
    try_batch(alone, again);
  }
}

// Inputs of any length that are read together must be equally long: nobody else compares them.
void Engine::check_lengths(Request& request) const {
  try {
    for (const Stage& stage : stages_) {
      if (stage.lookups != nullptr) stage.lookups->check_lengths(rows_of(stage, request));
    }
  } catch (const Error& error) {
    request.error = error.what();
    request.clients = true;
  }
}

// A request's inputs as the stage's lookups read them.
std::vector<InputRows> Engine::rows_of(const Stage& stage, const Request& request) const {
  std::vector<InputRows> rows;
  for (const size_t slot : stage.inputs) {
    const TensorView& view = request.inputs[slots_[slot].input];
    rows.push_back({static_cast<const char*>(view.data), row_bytes(view) / size_bytes(view.dtype)});
  }
  return rows;
}

size_t Engine::block_rows(size_t rows) const {
  const uint64_t worth = std::max<uint64_t>(1, kWorthWaking / std::max<uint64_t>(1, row_ns_.load(std::memory_order_relaxed)));
  const size_t shares = (rows + static_cast<size_t>(workers_->count()) - 1) / static_cast<size_t>(workers_->count());
  return std::min<size_t>(kBlockRows, std::max<size_t>(shares, worth));
}

void Engine::try_batch(std::vector<Request*>& requests, std::vector<Request*>& failed) {
  Batch batch;
  batch.requests = requests;
  size_t rows = 0;
  for (const Request* request : requests) {
    batch.starts.push_back(rows);
    rows += request->rows;
  }
  batch.starts.push_back(rows);
  for (Request* request : requests) {
    request->outputs.resize(outputs_.size(), nullptr);
    request->allocated.resize(outputs_.size(), 0);
  }
  batch.marked.resize(requests.size());
  batch.failures.resize(requests.size());
  batch.failed.assign(requests.size(), 0);
  batch.rows_of_block = block_rows(rows);
  std::atomic<uint64_t> spent_ns{0};
  workers_->run((rows + batch.rows_of_block - 1) / batch.rows_of_block, [&](size_t block) {
    const uint64_t before = thread_ns();
    run_block(batch, block);
    spent_ns += thread_ns() - before;
  });
  row_ns_ = (row_ns_ * 7 + spent_ns / std::max<size_t>(rows, 1)) / 8;
  for (size_t number = 0; number < requests.size(); ++number) {
    Request& request = *requests[number];
    const Batch::Marked& marked = batch.marked[number];
    if (batch.failed[number] != 0) {
      request.error = batch.failures[number].empty() ? "the server ran out of memory" : batch.failures[number];
      failed.push_back(&request);
    } else if (marked.rows > 0) {
      request.error = refusals_->words(marked.row, marked.rows, marked.position, marked.number);
      request.clients = true;
    }
  }
}

void Engine::run_block(Batch& batch, size_t number) {
  thread_local Block::Memory memory;
  Block block{};
  const size_t first = number * batch.rows_of_block, last = std::min(first + batch.rows_of_block, batch.starts.back());
  block.rows = last - first;
  block.memory = &memory;
  const auto before = static_cast<size_t>(std::upper_bound(batch.starts.begin(), batch.starts.end(), first) - batch.starts.begin()) - 1;
  bool failed_of_memory = false;
  std::string failure;
  try {
    for (size_t row = first, request = before; row < last; ++request) {
      const size_t end = std::min(batch.starts[request + 1], last);
      if (end > row) block.segments.push_back({request, row - batch.starts[request], end - row, row - first});
      row = end;
    }
    block.slots.resize(slots_.size());
    block.handed.assign(slots_.size(), 0);
    if (memory.slots.size() < slots_.size()) memory.slots.resize(slots_.size());
    if (memory.gathered.size() < slots_.size()) memory.gathered.resize(slots_.size());
    for (const Stage& stage : stages_) {
      if (stage.lookups != nullptr) {
        run_lookups(stage, batch, block);
      } else {
        run_session(stage, batch, block);
      }
    }
    if (marks_ != SIZE_MAX) look_at_marks(batch, block, static_cast<const int64_t*>(block.slots[marks_].data));
    hand_out(batch, block);
    return;
  } catch (const std::bad_alloc&) {
    failed_of_memory = true;
  } catch (const std::exception& error) {
    failure = error.what();
  }
  const std::lock_guard<std::mutex> lock(batch.mutex);
  for (size_t request = before; request < batch.requests.size() && batch.starts[request] < last; ++request) {
    batch.failed[request] = 1;
    if (!failed_of_memory) batch.failures[request] = failure;
  }
}

// Memory of a request's output: nullptr where nobody asked for it.
char* Engine::output_memory(Batch& batch, size_t request, size_t output, const std::vector<int64_t>& dims) {
  const std::lock_guard<std::mutex> lock(batch.mutex);
  Request& of = *batch.requests[request];
  if (of.allocated[output] == 0) {
    of.outputs[output] = of.allocate(output, with_rows(of.rows, dims));
    of.allocated[output] = 1;
  }
  return of.outputs[output];
}

void Engine::run_lookups(const Stage& stage, Batch& batch, Block& block) {
  const Recipe& recipe = stage.lookups->recipe();
  std::vector<OutputRows> outputs(recipe.outputs.size());
  Block::Memory& memory = *block.memory;
  std::vector<std::vector<InputRows>> inputs;
  for (const Block::Segment& segment : block.segments) inputs.push_back(rows_of(stage, *batch.requests[segment.request]));
  const auto dims_of = [&](size_t output) {
    std::vector<int64_t> dims = recipe.outputs[output].dims;
    if (dims[0] >= 0) return dims;
    // A history of any length: as long as its ids are, which have one length in a batch.
    dims[0] = static_cast<int64_t>(stage.lookups->varying_width(output, inputs[0]));
    for (const std::vector<InputRows>& of_segment : inputs) {
      if (static_cast<int64_t>(stage.lookups->varying_width(output, of_segment)) != dims[0]) throw Error("requests of one batch have histories of several lengths");
    }
    return dims;
  };
  const auto place = [&](size_t slot, DType dtype, const std::vector<int64_t>& dims) {
    TensorView& view = block.slots[slot];
    view.dtype = dtype;
    view.dims = with_rows(block.rows, dims);
    // Straight into the answers, where no stage reads it any more and somebody wants it.
    block.handed[slot] = !slots_[slot].read && slots_[slot].output != SIZE_MAX && slot != marks_;
    if (block.handed[slot] != 0) return;
    view.data = memory.slots[slot].bytes(view.bytes());
  };
  for (size_t number = 0; number < recipe.outputs.size(); ++number) place(stage.outputs[number], recipe.outputs[number].dtype, dims_of(number));
  if (stage.marks != SIZE_MAX) place(stage.marks, DType::i64, {2});
  const auto memory_of = [&](size_t slot, const Block::Segment& segment) {
    const TensorView& view = block.slots[slot];
    const size_t bytes = row_bytes(view);
    if (block.handed[slot] == 0) return static_cast<char*>(view.data) + segment.at * bytes;
    char* data = output_memory(batch, segment.request, slots_[slot].output, {view.dims.begin() + 1, view.dims.end()});
    if (data != nullptr) return data + segment.first * bytes;
    return memory.slots[slot].bytes(view.bytes());
  };
  for (size_t place = 0; place < block.segments.size(); ++place) {
    const Block::Segment& segment = block.segments[place];
    for (size_t number = 0; number < outputs.size(); ++number) outputs[number] = {memory_of(stage.outputs[number], segment), row_bytes(block.slots[stage.outputs[number]])};
    int64_t* marks = stage.marks == SIZE_MAX ? nullptr : reinterpret_cast<int64_t*>(memory_of(stage.marks, segment));
    stage.lookups->run(inputs[place], segment.first, segment.rows, outputs, marks, memory.lookups);
  }
}

// A block's rows of a request's input, one after the other. Where requests differ in the length of a ragged one, zeros fill up the shorter:
// what stands behind a row's lengths is not read.
TensorView Engine::gathered(Batch& batch, Block& block, size_t slot) {
  const auto part_of = [&](const Block::Segment& segment) -> const TensorView& { return batch.requests[segment.request]->inputs[slots_[slot].input]; };
  TensorView view = part_of(block.segments[0]);
  view.dims[0] = static_cast<int64_t>(block.rows);
  if (block.segments.size() == 1) {
    view.data = static_cast<char*>(view.data) + block.segments[0].first * row_bytes(view);
    return view;
  }
  const bool one_dimension = view.dims.size() == 2;
  for (const Block::Segment& segment : block.segments) {
    const TensorView& part = part_of(segment);
    if (one_dimension) view.dims[1] = std::max(view.dims[1], part.dims[1]);
    if (!one_dimension && row_bytes(part) != row_bytes(view)) throw Error("requests of one batch differ in the dims of '" + slots_[slot].tensor.name + "'");
  }
  const size_t bytes = row_bytes(view);
  char* to = block.memory->gathered[slot].bytes(view.bytes());
  view.data = to;
  for (const Block::Segment& segment : block.segments) {
    const TensorView& part = part_of(segment);
    const size_t of_part = row_bytes(part);
    const char* from = static_cast<const char*>(part.data) + segment.first * of_part;
    if (of_part == bytes) {
      if (bytes != 0) std::memcpy(to + segment.at * bytes, from, segment.rows * bytes);
      continue;
    }
    for (size_t row = 0; row < segment.rows; ++row) {
      char* of_row = to + (segment.at + row) * bytes;
      if (of_part != 0) std::memcpy(of_row, from + row * of_part, of_part);
      std::memset(of_row + of_part, 0, bytes - of_part);
    }
  }
  return view;
}

void Engine::run_session(const Stage& stage, Batch& batch, Block& block) {
  Block::Memory& memory = *block.memory;
  std::vector<TensorView> inputs, outputs;
  for (const size_t slot : stage.inputs) {
    TensorView& view = block.slots[slot];
    if (slots_[slot].input != SIZE_MAX && view.data == nullptr) {
      view = gathered(batch, block, slot);
    }
    inputs.push_back(view);
  }
  for (const size_t slot : stage.outputs) {
    TensorView view{slots_[slot].tensor.dtype, with_rows(block.rows, slots_[slot].tensor.dims), nullptr};
    if (fixed(slots_[slot].tensor.dims)) {
      view.data = memory.slots[slot].bytes(view.bytes());
    }
    outputs.push_back(view);
  }
  block.held.push_back(stage.session->run(inputs, outputs));
  for (size_t number = 0; number < outputs.size(); ++number) {
    const Tensor& tensor = slots_[stage.outputs[number]].tensor;
    if (outputs[number].dims.empty() || outputs[number].dims[0] != static_cast<int64_t>(block.rows)) {
      throw Error("output '" + tensor.name + "' lost or grew rows in a batch of " + std::to_string(block.rows));
    }
    block.slots[stage.outputs[number]] = outputs[number];
  }
}

void Engine::look_at_marks(Batch& batch, Block& block, const int64_t* marks) {
  for (const Block::Segment& segment : block.segments) {
    for (size_t row = 0; row < segment.rows; ++row) {
      const int64_t* of_row = marks + 2 * (segment.at + row);
      if (of_row[0] < 0) continue;
      const std::lock_guard<std::mutex> lock(batch.mutex);
      Batch::Marked& marked = batch.marked[segment.request];
      ++marked.rows;
      const auto place = static_cast<int64_t>(segment.first + row);
      if (marked.row < 0 || place < marked.row) marked = {place, marked.rows, of_row[0], of_row[1]};
    }
  }
}

void Engine::hand_out(Batch& batch, Block& block) {
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot].output == SIZE_MAX || block.handed[slot] != 0) continue;
    const TensorView& view = block.slots[slot];
    const size_t bytes = row_bytes(view);
    for (const Block::Segment& segment : block.segments) {
      char* data = output_memory(batch, segment.request, slots_[slot].output, {view.dims.begin() + 1, view.dims.end()});
      if (data != nullptr) std::memcpy(data + segment.first * bytes, static_cast<const char*>(view.data) + segment.at * bytes, segment.rows * bytes);
    }
  }
}

}  // namespace recsplit
