// ONNX Runtime by its C API, out of whatever libonnxruntime is there: the few functions that the engine calls, declared here.
//
// The API is a table of functions that only ever grows at its end, so one binary runs every version from 1.8 on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "recipe.h"

namespace recsplit {

// A tensor in memory that stays the caller's. `dims` with the batch first.
struct TensorView {
  DType dtype = DType::invalid;
  std::vector<int64_t> dims;
  void* data = nullptr;

  size_t bytes() const;
};

class Runtime;

// One model, loaded once; `run` may be called by any number of threads at a time.
class Session {
 public:
  // `threads`: of one run. Throws Error where the model can't be loaded.
  Session(std::shared_ptr<Runtime> runtime, const std::string& path, int threads);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // With their dims behind the batch; -1: varies.
  const std::vector<Tensor>& inputs() const { return inputs_; }
  const std::vector<Tensor>& outputs() const { return outputs_; }

  // Outputs whose `data` is given are written there. The others' memory is the runtime's, and lives as long as what is returned.
  // Throws Error with the runtime's words.
  std::shared_ptr<void> run(const std::vector<TensorView>& inputs, std::vector<TensorView>& outputs) const;

 private:
  std::vector<Tensor> describe(bool of_outputs) const;

  std::shared_ptr<Runtime> runtime_;
  void* session_ = nullptr;
  std::vector<Tensor> inputs_, outputs_;
  std::vector<const char*> input_names_, output_names_;
};

// The library at `path`, opened once a process and never closed: it leaves threads behind. Throws Error where it isn't there or too old.
std::shared_ptr<Runtime> runtime_at(const std::string& path);

}  // namespace recsplit
