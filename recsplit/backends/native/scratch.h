// Memory that is used again and again, and never cleared in between.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace recsplit {

class Scratch {
 public:
  Scratch() = default;
  Scratch(Scratch&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr, other.size_ = 0; }
  Scratch& operator=(Scratch&&) = delete;
  ~Scratch() { std::free(data_); }

  // `size` bytes, aligned to a cache line; what they hold is whatever was there.
  char* bytes(size_t size) {
    if (size > size_ || data_ == nullptr) {
      std::free(data_);
      data_ = nullptr;
      size_ = (size + kLine) / kLine * kLine;
      data_ = static_cast<char*>(std::aligned_alloc(kLine, size_));
      if (data_ == nullptr) throw std::bad_alloc();
    }
    return data_;
  }

  // Where they are; nullptr before the first.
  char* data() const { return data_; }

 private:
  static constexpr size_t kLine = 64;
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace recsplit
