// Files of tables in memory: mapped once for all instances of a model, or copied once into huge pages.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace recsplit {

// How a file's bytes get into memory. mapped: page by page, as they are read. populated: all at once, at load. huge: copied into pages
// of 2 MB, which the processor finds sooner than small ones; no file that changes later can hurt then.
enum class Loading : int { automatic, mapped, populated, huge };

Loading loading_of(const std::string& name);
const char* name_of(Loading loading);

constexpr uint64_t kHugePage = 2 << 20;

// The bytes of a whole file, which stay as long as this does. Safe to share between threads.
class MappedFile {
 public:
  // `interleave`: spread the pages over the machine's memory nodes. Throws Error where the file can't be had.
  MappedFile(const std::string& path, Loading loading, bool interleave);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const char* data() const { return data_; }
  uint64_t size() const { return size_; }
  Loading loading() const { return loading_; }
  // The share of the file that memory has room for, beside what else is in use: 1 where all of it fits, or is in memory already.
  double resident_share() const { return resident_share_; }
  // Whether pages went missing under the mapping: the file was cut short, or its disk failed. What was read of them were zeros.
  bool broken() const;

 private:
  void copy(int file, bool interleave);
  void map(int file, bool populate);

  std::string path_;
  const char* data_ = nullptr;
  uint64_t size_ = 0;
  Loading loading_;
  double resident_share_ = 1;
  int guard_ = -1;
};

// Brings ranges of mappings into memory, one after the other, in a thread of its own, so that nobody waits for pages that everybody reads.
class Warming {
 public:
  Warming() = default;
  ~Warming();
  Warming(const Warming&) = delete;
  Warming& operator=(const Warming&) = delete;
  void begin(std::vector<std::pair<const char*, uint64_t>> ranges);

 private:
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

// Has the system read the pages of a mapping in which these bytes lie, and doesn't wait for it: many are on their way at once, where reading
// them one after the other would wait for each.
void ask_disk(const char* data, size_t size);

}  // namespace recsplit
