// The files beside a model in which its tables and buffers lie, each mapped once.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "tables.h"

namespace recsplit {

class TableFiles {
 public:
  TableFiles(std::string folder, Loading loading, bool interleave) : folder_(std::move(folder)), loading_(loading), interleave_(interleave) {}

  // So many bytes of a file, from `offset` on. Throws Error where the file can't be had, or ends before.
  const char* at(const std::string& name, uint64_t offset, uint64_t bytes);
  const MappedFile& file(const std::string& name) const { return *files_.at(name); }
  // Throws Error where pages of a file went missing: what was read of them were zeros.
  void require_whole() const;
  // Each file, in words.
  std::string loaded() const;

 private:
  std::string folder_;
  Loading loading_;
  bool interleave_;
  std::map<std::string, std::unique_ptr<MappedFile>> files_;
};

}  // namespace recsplit
