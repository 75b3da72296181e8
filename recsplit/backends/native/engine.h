// One model: its stages (lookups, ONNX models) over the requests of a batch, block by block of rows, on its workers.
//
// A block goes through all stages before the next begins, so that what one stage gives is still in the processor's cache for the next.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "json.h"
#include "lookups.h"
#include "onnxruntime.h"
#include "refusal.h"
#include "workers.h"

namespace recsplit {

struct EngineSettings {
  TableSettings tables;
  std::string onnxruntime;  // the library's path; needed by models that have an ONNX stage
  int workers = 1;
};

// One request of a batch. Inputs are in the order of the model's; data lies in memory until the batch is done, aligned to its elements.
struct Request {
  size_t rows = 0;
  std::vector<TensorView> inputs;
  // Memory for an output (by the model's order) of these dims, the batch first; nullptr where nobody asked for it. Called once for each, by
  // any thread, but by one at a time. May throw Error.
  std::function<char*(size_t output, const std::vector<int64_t>& dims)> allocate;

  // What came of it: empty, or why it failed, and whether the client is at fault.
  std::string error;
  bool clients = false;
  bool unavailable = false;  // a server that it needs doesn't answer

  // Where each output goes, once it was asked for: a request that is tried again writes where it wrote before.
  std::vector<char*> outputs;
  std::vector<char> allocated;
};

// The bytes of a file; none where it isn't there.
std::string read_file(const std::string& path);

class BagsModel;
class Front;

class Engine {
 public:
  // `config`: Triton's, of the model whose version folder this is. Throws Error where they don't belong together.
  Engine(const std::string& folder, const Json& config, const EngineSettings& settings);
  // Models of a front, one after the other, that lie in links beside its recipe: `part` names them and has the config of all together. They
  // compute on the front's workers.
  Engine(const Json& part, const std::string& folder, const EngineSettings& settings, Workers& workers);
  ~Engine();

  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }
  Workers& workers() { return *workers_; }
  // What asks shards elsewhere; nullptr: nothing does.
  const Front* front() const { return front_.get(); }
  // Whether requests have a batch dimension; those of a shard on a server of its own have none.
  bool batched() const { return bags_ == nullptr; }
  // The lookups that the engine does itself; nullptr: ONNX Runtime does them.
  const Lookups* lookups() const;
  std::string loaded() const;

  // Answers every request, or says why not. Where the batch fails, each is tried alone, so that only the one at fault fails.
  void run(std::vector<Request>& requests);

 private:
  struct Stage {
    std::unique_ptr<Lookups> lookups;
    std::unique_ptr<Session> session;
    std::vector<size_t> inputs, outputs;  // slots, in the order of the recipe's or the session's
    size_t marks = SIZE_MAX;              // a slot: of lookups' marks
  };
  // Where a tensor of a block comes from and goes to.
  struct Slot {
    Tensor tensor;
    size_t input = SIZE_MAX;   // of the request
    size_t output = SIZE_MAX;  // of the request
    bool read = false;         // by a stage, after it was made
  };
  struct Batch;
  struct Block;

  void begin(const Json& config);
  void finish(const Json& config);
  void add_stages(const std::string& folder, const std::optional<Json>& recipe, const std::string& onnx, const EngineSettings& settings, int depth);
  void add_stage(const Json& json, const std::string& folder, const EngineSettings& settings);
  size_t slot(const Tensor& tensor, bool is_output);
  void bind_outputs();
  void try_batch(std::vector<Request*>& requests, std::vector<Request*>& failed);
  void run_block(Batch& batch, size_t number);
  void run_lookups(const Stage& stage, Batch& batch, Block& block);
  void run_session(const Stage& stage, Batch& batch, Block& block);
  TensorView gathered(Batch& batch, Block& block, size_t slot);
  void hand_out(Batch& batch, Block& block);
  void look_at_marks(Batch& batch, Block& block, const int64_t* marks);
  char* output_memory(Batch& batch, size_t request, size_t output, const std::vector<int64_t>& dims);
  void check_lengths(Request& request) const;
  std::vector<InputRows> rows_of(const Stage& stage, const Request& request) const;
  size_t block_rows(size_t rows) const;

  std::vector<Tensor> inputs_, outputs_;
  std::vector<Slot> slots_;
  std::vector<Stage> stages_;
  size_t marks_ = SIZE_MAX;  // the slot of `unknown_ids`, where its marked rows are refused
  std::unique_ptr<Refusals> refusals_;
  std::unique_ptr<BagsModel> bags_;
  std::unique_ptr<Front> front_;
  std::unique_ptr<Workers> own_workers_;
  Workers* workers_;
  std::atomic<uint64_t> row_ns_{20000};  // what a row takes, in the mean of the last batches
};

}  // namespace recsplit
