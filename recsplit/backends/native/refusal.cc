#include "refusal.h"

namespace recsplit {

Refusals::Refusals(const std::string& text) {
  const Json json = Json::parse(text, "parameter 'recsplit.lookups'");
  for (const Json& item : json.array()) {
    const Json& columns = item.at("columns");
    items_.push_back({item.at("input").text(), item.at("table").text(), columns.is_null() ? -1 : columns.integers().at(0), item.at("rows").integer(), item.at("shift").integer(),
                      item.at("width").integer(), item.at("direct").boolean()});
  }
}

std::string Refusals::words(int64_t row, int64_t rows, int64_t position, int64_t number) const {
  std::string text = "id " + std::to_string(number) + " at position " + std::to_string(position) + " is outside its table";
  int64_t first = 0;
  for (const Item& item : items_) {
    if (position >= first + item.width) {
      first += item.width;
      continue;
    }
    const std::string column = item.column < 0 ? "" : " column " + std::to_string(item.column + position - first);
    const std::string hint = number == INT64_MIN ? " (NaN, infinity, or lengths that do not fit the values)" : "";
    const std::string what = item.direct ? "id " + std::to_string(number) + hint : "row " + std::to_string(number) + hint + ", computed from the input,";
    const int64_t shift = item.direct ? item.shift : 0;
    text = "input '" + item.input + "'" + column + ": " + what + " is outside table '" + item.table + "' (" + std::to_string(-shift) + ".." + std::to_string(item.rows - 1 - shift) + ")";
    break;
  }
  const std::string more = rows > 1 ? " (and " + std::to_string(rows - 1) + " more rows with unknown ids)" : "";
  return text + ", row " + std::to_string(row) + " of the request" + more + " {\"unknown_id\": {\"row\": " + std::to_string(row) + ", \"position\": " + std::to_string(position) +
         ", \"id\": " + std::to_string(number) + "}}";
}

std::string moved(std::string words, int64_t rows) {
  const std::string mark = "{\"unknown_id\": {\"row\": ";
  const size_t at = words.rfind(mark);
  if (at == std::string::npos) return words;
  const size_t first = at + mark.size(), last = words.find_first_not_of("0123456789", first);
  const std::string row = words.substr(first, last - first);
  if (row.empty() || row.size() > 18) return words;
  const std::string now = std::to_string(std::stoll(row) + rows), before = ", row " + row + " of the request";
  words.replace(first, row.size(), now);
  const size_t told = words.rfind(before, at);
  if (told != std::string::npos) words.replace(told, before.size(), ", row " + now + " of the request");
  return words;
}

}  // namespace recsplit
