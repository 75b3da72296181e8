// Maps from rows to places in shards elsewhere, in few bits a row. A shard has the rows of a table in the order of their numbers, so that a row's
// place follows from its shard and from how many rows before it are that shard's.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"

namespace recsplit {

class PlaceMaps {
 public:
  // Takes the INT32 places of so many rows under a number of the caller's. False: they count up in too many pieces.
  bool add(size_t number, const char* places, uint64_t rows);
  // Puts what was added into one piece of memory. Before that no map can be used.
  void pack();

  // nullptr: none was added under this number.
  const RankMap* at(size_t number) const;
  // In words; empty where there are none.
  std::string loaded() const;

 private:
  struct Entry {
    RankMap map;
    std::vector<std::vector<char>> levels;  // until they are packed
  };

  std::map<size_t, Entry> entries_;
  std::unique_ptr<char, void (*)(void*)> memory_{nullptr, std::free};
  uint64_t bytes_ = 0, rows_ = 0;
};

}  // namespace recsplit
