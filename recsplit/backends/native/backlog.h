// What a server has under way, as a router thinks of it: requests are computed in the order in which they came, so many at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "replicas.h"

namespace recsplit {

class Backlog {
 public:
  size_t size() const { return requests_.size(); }

  // A request that takes `ms` once it is computed, and begins at `now` where a place is free. Its number.
  uint64_t add(double ms, int32_t at_once, Clock::time_point now) {
    requests_.push_back({++last_, ms, {}, false});
    ms_ += ms;
    begin(at_once, now);
    return last_;
  }

  // A request that has its answer, or failed: the next one begins.
  void remove(uint64_t number, int32_t at_once, Clock::time_point now) {
    const auto gone = std::find_if(requests_.begin(), requests_.end(), [&](const Request& one) { return one.number == number; });
    if (gone == requests_.end()) return;
    ms_ -= gone->ms;
    requests_.erase(gone);
    if (requests_.empty()) ms_ = 0;  // and no remainder of rounding
    begin(at_once, now);
  }

  // The time that is left of all of them. What takes longer than was thought has none left.
  double left_ms(Clock::time_point now) const {
    double left = ms_;
    for (const Request& one : requests_) {
      if (!one.begun) break;
      left -= std::min(one.ms, std::chrono::duration<double, std::milli>(now - one.start).count());
    }
    return std::max(left, 0.0);
  }

 private:
  struct Request {
    uint64_t number;
    double ms;
    Clock::time_point start;
    bool begun;
  };

  void begin(int32_t at_once, Clock::time_point now) {
    const size_t count = std::min(requests_.size(), static_cast<size_t>(at_once));
    for (size_t place = 0; place < count; ++place) {
      Request& one = requests_[place];
      if (one.begun) continue;
      one.start = now;
      one.begun = true;
    }
  }

  std::deque<Request> requests_;
  double ms_ = 0;
  uint64_t last_ = 0;
};

}  // namespace recsplit
