// What requests read of each table: counts, and a sample of the rows, out of which `recsplit access` makes an access profile.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "recipe.h"

namespace recsplit {

// One row of a request in so many has its reads sampled, in the mean, unless another number is set.
constexpr uint64_t kSampledStride = 64;

// Numbers at random, quick and of one thread (xorshift64).
class Random {
 public:
  uint64_t next() { return state_ ^= state_ << 13, state_ ^= state_ >> 7, state_ ^= state_ << 17; }

 private:
  uint64_t state_ = 0x9E3779B97F4A7C15ULL ^ reinterpret_cast<uintptr_t>(this);
};

// Counts of one table's reads, and rows at random out of them: each read that a sampled row of a request makes is kept with probability
// 2 ** -level. A full sample loses every second of its rows, at random, and its level rises: so it stays of one size, and even over all
// that was read since it began.
class TableAccess {
 public:
  TableAccess(const std::string& table, uint64_t rows, size_t row_bytes, size_t room) : name(table), rows(rows), row_bytes(row_bytes), room_(room) {}

  void count(uint64_t ids, uint64_t none, uint64_t unknown);
  void sample(const std::vector<uint32_t>& some, Random& random);

  struct Sample {
    uint64_t ids, read, unknown;
    int level;
    std::vector<uint32_t> rows;
  };
  // What there is since the last time that `clear` was set.
  Sample taken(bool clear);

  const std::string name;
  const uint64_t rows;
  const size_t row_bytes;  // 0: of a table in shards elsewhere
  std::atomic<uint64_t> ids{0}, read{0}, unknown{0};  // since the start

 private:
  std::mutex mutex_;
  size_t room_;
  int level_ = 0;
  std::vector<uint32_t> sampled_;
  uint64_t ids_before_ = 0, read_before_ = 0, unknown_before_ = 0;
};

// Of a model: its source's tables by name, in the order in which lookups first read them.
class Access {
 public:
  explicit Access(const Recipe& recipe);

  TableAccess& of(size_t lookup) { return *tables_[of_lookup_[lookup]]; }
  const std::vector<std::unique_ptr<TableAccess>>& tables() const { return tables_; }
  std::atomic<uint64_t> rows{0};  // of requests, since the start
  uint64_t rows_since(bool clear);  // the last time that `clear` was set
  void begin_anew();

 private:
  std::mutex mutex_;
  uint64_t rows_before_ = 0;
  std::vector<std::unique_ptr<TableAccess>> tables_;
  std::vector<size_t> of_lookup_;
};

}  // namespace recsplit
