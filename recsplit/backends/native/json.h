// JSON, read strictly: what the engine's files and Triton's configs are written in.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace recsplit {

// A value of JSON. Integers keep 64 bits. Reading one as another kind, or a key that isn't there, throws Error; messages say where.
class Json {
 public:
  enum class Kind { null, boolean, integer, real, text, array, object };

  // Throws Error where `text` is no JSON, is nested too deeply or has a key twice; `origin` begins its message.
  static Json parse(std::string_view text, const std::string& origin);

  Kind kind() const { return kind_; }
  bool is_null() const { return kind_ == Kind::null; }
  bool boolean() const;
  int64_t integer() const;
  // An integer in [low, high].
  int64_t integer(int64_t low, int64_t high) const;
  // A finite number, whole or not.
  double number() const;
  const std::string& text() const;
  const std::vector<Json>& array() const;
  const Json& at(const std::string& key) const;
  // The value of a key, or nullptr where the object doesn't have it.
  const Json* find(const std::string& key) const;
  std::vector<int64_t> integers() const;

 private:
  friend class JsonReader;
  [[noreturn]] void refuse(const char* expected) const;

  Kind kind_ = Kind::null;
  int64_t integer_ = 0;
  double real_ = 0;
  std::string text_;
  std::vector<Json> items_;
  std::map<std::string, Json> members_;
  std::string where_;
};

// A text as JSON has it, in its quotes.
std::string quoted(const std::string& text);

}  // namespace recsplit
