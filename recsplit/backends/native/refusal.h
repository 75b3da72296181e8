// Unknown ids: from a row that was marked to words that name input, column, id and table; as the Python backend says it (ort_lookups.py).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "json.h"

namespace recsplit {

class Refusals {
 public:
  // `text`: the parameter recsplit.lookups. Throws Error where it is no list of lookups.
  explicit Refusals(const std::string& text);

  // Why a request is refused of which `rows` rows are marked, the first of them `row`.
  std::string words(int64_t row, int64_t rows, int64_t position, int64_t number) const;

 private:
  struct Item {
    std::string input, table;
    int64_t column;  // -1: none
    int64_t rows, shift, width;
    bool direct;
  };

  std::vector<Item> items_;
};

// The words of a refusal whose request was a part of a larger one: `rows` rows come before it. Other words stay as they are.
std::string moved(std::string words, int64_t rows);

}  // namespace recsplit
