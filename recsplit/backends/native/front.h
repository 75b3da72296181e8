// A front server of a fleet as one model: what turns ids into places, the shards elsewhere, and what joins their parts, one after the other.
//
// engine.json: {"schema": 1, "front": {"before": {"models": [NAME, ...], "config": {...}}, "remote": {...}, "after": {"models": [NAME, ...],
// "config": {...}}}}. Models are others of the repository, in the version of this one; a config is Triton's, of what they take and give
// together. A query is computed in blocks before and after, and asks each shard once.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "remote.h"
#include "scratch.h"

namespace recsplit {

class Front {
 public:
  // `folder`: the version folder of the front's model. Throws Error where the three don't fit together.
  Front(const Json& json, const std::string& folder, const EngineSettings& settings, const std::vector<Tensor>& inputs, const std::vector<Tensor>& outputs, Workers& workers);

  void run(std::vector<Request>& requests);

  const Engine& before() const { return before_; }
  const Remote& remote() const { return remote_; }
  std::string loaded() const;

 private:
  // Gives the client what was made before the shards. False: the request has an error.
  bool pass(Request& request, const std::vector<Scratch>& made, const std::vector<std::vector<int64_t>>& dims) const;

  // Where an input of the model after the shards comes from.
  struct Source {
    enum { client, before, shards } kind;
    size_t number;
  };

  Engine before_;
  Remote remote_;
  Engine after_;
  std::vector<size_t> before_inputs_;  // of the client's
  std::vector<size_t> places_;         // outputs of `before`, by the remote's places
  std::vector<Source> after_inputs_;
  std::vector<size_t> after_outputs_;  // the client's, by those of `after`
  struct Passed {
    size_t output, made;  // of the client's; of `before`
  };
  std::vector<Passed> passed_;
};

}  // namespace recsplit
