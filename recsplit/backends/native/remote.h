// Shards on servers of their own: of a batch's places those in a shard's range go out as bags, one request a shard, all at once; pooled vectors
// come back as the shard's partial tensors. As backends/remote/model.py has it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "replicas.h"
#include "scratch.h"

namespace recsplit {

// A request between the models before and after the shards: its rows, places by tensor, and where partial tensors go.
struct Passing {
  size_t rows = 0;
  std::vector<const int32_t*> places;       // by Remote::places()
  std::vector<Scratch> partials;            // by Remote::partials(); made by `ask`
  std::string error;                        // why it has no answer
  bool unavailable = false;                 // the error is that nobody answers
};

// Rows of a table in bags: those of bag b are rows[offsets[b]] to rows[offsets[b + 1]].
struct Csr {
  const int32_t *rows, *offsets;
  size_t count, bags;
};

class Remote {
 public:
  // `json`: {"timeout_ms", "hedge_ms", "attempts", "probe_ms", "resolve_ms", "shards": [{"model", "version", "replicas", "bags": [{"number", "places",
  // "output", "dtype", "widths", "poolings", "first", "last", "dim"}]}]}. Throws Error where it can't be.
  explicit Remote(const Json& json);

  // INT32 [rows, width] each.
  const std::vector<Tensor>& places() const { return places_; }
  // What the shards give, [vectors * dim].
  const std::vector<Tensor>& partials() const { return partials_; }

  // Asks the shards for what the requests need of them. A request that has rows in a shard which doesn't answer gets an error; the others
  // get zeros of it, which is what they have there.
  void ask(std::vector<Passing>& requests) const;

  struct Shard;
  const std::vector<std::unique_ptr<Shard>>& shards() const { return shards_; }
  ~Remote();

 private:
  std::vector<Tensor> places_, partials_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

// One shard elsewhere.
struct Remote::Shard {
  struct Bags {
    int number;
    size_t places, partial;  // of the remote's tensors
    std::vector<uint32_t> widths;
    std::vector<Pooling> poolings;
    int32_t first, last;
    uint32_t dim;
    uint32_t width = 0;  // places a row
  };

  std::string model;
  std::vector<Bags> bags;
  std::unique_ptr<Replicas> replicas;
  std::string path;
  std::atomic<uint64_t> requests{0}, skipped{0}, rows{0};

  // What the shard is asked; `csr`: by `bags`.
  Question question(const std::vector<Csr>& csr) const;
};

}  // namespace recsplit
