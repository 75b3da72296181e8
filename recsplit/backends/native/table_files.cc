#include "table_files.h"

#include "error.h"

namespace recsplit {

const char* TableFiles::at(const std::string& name, uint64_t offset, uint64_t bytes) {
  auto& file = files_[name];
  if (file == nullptr) file = std::make_unique<MappedFile>(folder_ + "/" + name, loading_, interleave_);
  if (offset > file->size() || bytes > file->size() - offset) throw Error(folder_ + "/" + name + " ends before its last table does: it was cut short, or is another build's");
  return file->data() + offset;
}

void TableFiles::require_whole() const {
  for (const auto& [name, file] : files_) {
    if (file->broken()) throw Error("file '" + name + "' lost some of its pages: it was cut short, or its disk failed. Publish the build again, and load it");
  }
}

std::string TableFiles::loaded() const {
  std::string words;
  for (const auto& [name, file] : files_) words += ", " + name + " " + std::to_string(file->size()) + " bytes " + name_of(file->loading());
  return words;
}

}  // namespace recsplit
