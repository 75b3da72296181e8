// What is thrown inside the engine, and caught at its borders.
#pragma once

#include <stdexcept>
#include <string>

namespace recsplit {

// `clients`: whether the client's request is at fault, not the model or the machine.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, bool clients = false) : std::runtime_error(message), clients_(clients) {}
  bool clients() const { return clients_; }

 private:
  bool clients_;
};

// Nobody can answer now: it may be well to ask again.
class Unavailable : public Error {
 public:
  using Error::Error;
};

}  // namespace recsplit
