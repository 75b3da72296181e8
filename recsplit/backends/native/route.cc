#include "route.h"

#include <algorithm>
#include <limits>

namespace recsplit {

namespace {

double done_ms(const RouteServer& server, double own_ms) { return (server.under_way < server.at_once ? 0 : server.work_ms / server.at_once) + own_ms; }

// The server of a variant that is done first with a part; -1: none is well.
int32_t first_done(const RouteServer* servers, int32_t count, int32_t variant, int64_t rows) {
  int32_t chosen = -1;
  double least = std::numeric_limits<double>::infinity();
  for (int32_t number = 0; number < count; ++number) {
    const RouteServer& server = servers[number];
    if (server.variant != variant || server.well == 0) continue;
    const double done = done_ms(server, server.a_ms + server.b_ms * static_cast<double>(rows));
    if (done < least) {
      least = done;
      chosen = number;
    }
  }
  return chosen;
}

// The parts of a query that one variant answers, or why it can't.
int32_t parts_of(const RouteVariant& variant, int32_t number, RouteServer* servers, int32_t server_count, int64_t rows, double within_ms, RoutePart* parts, int32_t room) {
  const int64_t most = variant.split_rows > 0 ? variant.split_rows : rows, count = std::max<int64_t>(1, (rows + most - 1) / std::max<int64_t>(most, 1));
  if (count > room) return kRouteTooMany;
  for (int32_t part = 0; part < count; ++part) {
    const int64_t here = rows / count + (part < rows % count ? 1 : 0);
    const int32_t chosen = first_done(servers, server_count, number, here);
    if (chosen < 0) return kRouteNobody;  // then no part before it has a server either
    RouteServer& server = servers[chosen];
    const double own_ms = server.a_ms + server.b_ms * static_cast<double>(here);
    parts[part] = {chosen, number, here, own_ms, done_ms(server, own_ms), server.work_ms};
    server.work_ms += own_ms;
    ++server.under_way;
    if (within_ms < 0 || parts[part].done_ms <= within_ms) continue;
    for (int32_t before = part; before >= 0; --before) {
      servers[parts[before].server].work_ms = parts[before].work_ms;
      --servers[parts[before].server].under_way;
    }
    return kRouteLate;
  }
  return static_cast<int32_t>(count);
}

}  // namespace

int32_t route(const RouteRules& rules, RouteVariant* variants, int32_t variant_count, RouteServer* servers, int32_t server_count, int64_t rows, double within_ms, RoutePart* parts,
              int32_t room) {
  int32_t why = kRouteNobody;
  if (rules.large_rows > 0 && rows >= rules.large_rows) {
    why = parts_of(variants[rules.large_variant], rules.large_variant, servers, server_count, rows, within_ms, parts, room);
    if (why > 0) return why;
  }
  uint64_t passed_over = 0;
  const auto takes_turns = [&](int32_t number) { return variants[number].weight > 0 && (passed_over >> number & 1) == 0; };
  while (true) {
    int32_t next = -1;
    for (int32_t number = 0; number < variant_count; ++number) {
      if (takes_turns(number) && (next < 0 || variants[number].credit + variants[number].weight > variants[next].credit + variants[next].weight)) next = number;
    }
    if (next < 0) return why;
    const int32_t count = parts_of(variants[next], next, servers, server_count, rows, within_ms, parts, room);
    if (count > 0) {
      for (int32_t number = 0; number < variant_count; ++number) {
        if (!takes_turns(number)) continue;
        variants[number].credit += variants[number].weight;
        variants[next].credit -= variants[number].weight;
      }
      return count;
    }
    why = why == kRouteNobody ? count : why;
    passed_over |= uint64_t{1} << next;
  }
}

}  // namespace recsplit
