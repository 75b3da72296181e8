#include "json.h"

#include <cerrno>
#include <cstdlib>

#include "error.h"

namespace recsplit {

namespace {
constexpr int kDeepest = 64;
}

class JsonReader {
 public:
  JsonReader(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  Json whole() {
    Json value = read(0, "");
    skip();
    if (place_ != text_.size()) fail("more than one value");
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(origin_ + " is not JSON: " + what + " at byte " + std::to_string(place_));
  }

  void skip() {
    while (place_ < text_.size() && (text_[place_] == ' ' || text_[place_] == '\n' || text_[place_] == '\t' || text_[place_] == '\r')) ++place_;
  }

  char next() {
    if (place_ >= text_.size()) fail("it ends too early");
    return text_[place_];
  }

  void expect(char letter) {
    if (next() != letter) fail(std::string("expected '") + letter + "'");
    ++place_;
  }

  bool word(std::string_view letters) {
    if (text_.substr(place_, letters.size()) != letters) return false;
    place_ += letters.size();
    return true;
  }

  Json read(int depth, const std::string& where) {
    if (depth > kDeepest) fail("it is nested too deeply");
    skip();
    Json value;
    value.where_ = origin_ + where;
    const char letter = next();
    if (letter == '{') {
      members(value, depth, where);
    } else if (letter == '[') {
      items(value, depth, where);
    } else if (letter == '"') {
      value.kind_ = Json::Kind::text;
      value.text_ = string();
    } else if (word("true")) {
      value.kind_ = Json::Kind::boolean;
      value.integer_ = 1;
    } else if (word("false")) {
      value.kind_ = Json::Kind::boolean;
    } else if (!word("null")) {
      number(value);
    }
    return value;
  }

  void members(Json& value, int depth, const std::string& where) {
    value.kind_ = Json::Kind::object;
    expect('{');
    skip();
    if (next() == '}') {
      ++place_;
      return;
    }
    while (true) {
      skip();
      const std::string key = string();
      skip();
      expect(':');
      if (!value.members_.emplace(key, read(depth + 1, where + "/" + key)).second) fail("the key '" + key + "' stands twice");
      skip();
      if (next() == '}') break;
      expect(',');
    }
    ++place_;
  }

  void items(Json& value, int depth, const std::string& where) {
    value.kind_ = Json::Kind::array;
    expect('[');
    skip();
    if (next() == ']') {
      ++place_;
      return;
    }
    while (true) {
      value.items_.push_back(read(depth + 1, where + "[]"));
      skip();
      if (next() == ']') break;
      expect(',');
    }
    ++place_;
  }

  void number(Json& value) {
    const size_t start = place_;
    bool whole = true;
    while (place_ < text_.size()) {
      const char letter = text_[place_];
      if (letter == '.' || letter == 'e' || letter == 'E') whole = false;
      if (!(letter >= '0' && letter <= '9') && letter != '-' && letter != '+' && letter != '.' && letter != 'e' && letter != 'E') break;
      ++place_;
    }
    const std::string digits(text_.substr(start, place_ - start));
    if (digits.empty()) fail("expected a value");
    char* end = nullptr;
    errno = 0;
    if (whole) {
      value.kind_ = Json::Kind::integer;
      value.integer_ = std::strtoll(digits.c_str(), &end, 10);
    } else {
      value.kind_ = Json::Kind::real;
      value.real_ = std::strtod(digits.c_str(), &end);
    }
    if (errno == ERANGE || end != digits.c_str() + digits.size()) fail("a number that isn't one");
  }

  unsigned hex() {
    unsigned code = 0;
    for (int digit = 0; digit < 4; ++digit) {
      const char letter = next();
      const int number = letter >= '0' && letter <= '9'   ? letter - '0'
                         : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10
                         : letter >= 'A' && letter <= 'F' ? letter - 'A' + 10
                                                          : -1;
      if (number < 0) fail("a wrong escape");
      code = code * 16 + static_cast<unsigned>(number);
      ++place_;
    }
    return code;
  }

  static void append(std::string& text, unsigned code) {
    if (code < 0x80) {
      text += static_cast<char>(code);
    } else if (code < 0x800) {
      text += static_cast<char>(0xC0 | (code >> 6));
      text += static_cast<char>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
      text += static_cast<char>(0xE0 | (code >> 12));
      text += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
      text += static_cast<char>(0x80 | (code & 0x3F));
    } else {
      text += static_cast<char>(0xF0 | (code >> 18));
      text += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
      text += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
      text += static_cast<char>(0x80 | (code & 0x3F));
    }
  }

  std::string string() {
    expect('"');
    std::string text;
    while (next() != '"') {
      char letter = text_[place_++];
      if (static_cast<unsigned char>(letter) < 0x20) fail("a control character in a text");
      if (letter != '\\') {
        text += letter;
        continue;
      }
      letter = next();
      ++place_;
      if (letter == 'u') {
        unsigned code = hex();
        if (code >= 0xD800 && code < 0xDC00) {
          if (!word("\\u")) fail("half a character");
          const unsigned low = hex();
          if (low < 0xDC00 || low > 0xDFFF) fail("half a character");
          code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        }
        append(text, code);
        continue;
      }
      const std::string_view escapes = "\"\\/bfnrt", meanings = "\"\\/\b\f\n\r\t";
      const size_t index = escapes.find(letter);
      if (index == std::string_view::npos) fail("a wrong escape");
      text += meanings[index];
    }
    ++place_;
    return text;
  }

  std::string_view text_;
  const std::string& origin_;
  size_t place_ = 0;
};

Json Json::parse(std::string_view text, const std::string& origin) { return JsonReader(text, origin).whole(); }

void Json::refuse(const char* expected) const { throw Error(where_ + ": expected " + expected); }

bool Json::boolean() const {
  if (kind_ != Kind::boolean) refuse("true or false");
  return integer_ != 0;
}

int64_t Json::integer() const {
  if (kind_ != Kind::integer) refuse("a whole number");
  return integer_;
}

int64_t Json::integer(int64_t low, int64_t high) const {
  const int64_t number = integer();
  if (number < low || number > high) refuse(("a number from " + std::to_string(low) + " to " + std::to_string(high)).c_str());
  return number;
}

double Json::number() const {
  if (kind_ == Kind::integer) return static_cast<double>(integer_);
  if (kind_ != Kind::real) refuse("a number");
  return real_;
}

const std::string& Json::text() const {
  if (kind_ != Kind::text) refuse("a text");
  return text_;
}

const std::vector<Json>& Json::array() const {
  if (kind_ != Kind::array) refuse("an array");
  return items_;
}

const Json* Json::find(const std::string& key) const {
  if (kind_ != Kind::object) refuse("an object");
  const auto member = members_.find(key);
  return member == members_.end() ? nullptr : &member->second;
}

const Json& Json::at(const std::string& key) const {
  const Json* value = find(key);
  if (value == nullptr) refuse(("the key '" + key + "'").c_str());
  return *value;
}

std::vector<int64_t> Json::integers() const {
  std::vector<int64_t> numbers;
  for (const Json& item : array()) numbers.push_back(item.integer());
  return numbers;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char letter : text) {
    if (letter == '"' || letter == '\\') out += '\\';
    out += static_cast<unsigned char>(letter) < 0x20 ? ' ' : letter;
  }
  return out + "\"";
}

}  // namespace recsplit
